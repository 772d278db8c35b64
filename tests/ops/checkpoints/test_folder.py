"""Which checkpoints are whole, and what is left when something was killed or has changed."""

import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from slime_search.errors import DataError
from slime_search.ops.checkpoints.folder import TRACKER, CheckpointFolder
from slime_search.ops.checkpoints.manifest import Manifest
from slime_search.ops.checkpoints.resume import prepare_resume
from tests.ops.checkpoints.saving import content, is_whole, killed_at, prune, resume, save, save_next, seal

EVENTS = range(1, 200)


def saved(folder: CheckpointFolder, *iterations: int) -> CheckpointFolder:
    for iteration in iterations:
        save(folder.root, iteration)
        folder.seal_finished()
    return folder


def test_a_save_killed_at_any_step_is_never_resumed_from(
    processes: ForkServerContext, folder: CheckpointFolder
) -> None:
    for event in EVENTS:
        shutil.rmtree(folder.root)
        folder.root.mkdir()
        saved(folder, 10)
        killed = killed_at(processes, save_next, folder.root, event)
        found = prepare_resume(folder, None)
        assert found is not None
        assert is_whole(folder.root, found.iteration)
        assert folder.tracked() == found.iteration == (20 if is_whole(folder.root, 20) else 10)
        # The training goes on, and what it saves then is as good as any.
        save(folder.root, 20)
        assert folder.seal_finished() is not None
        assert [m.iteration for m in folder.valid(thorough=True)] == [20, 10]
        if not killed:
            break
    assert event > 10


def test_sealing_killed_at_any_step_is_done_again(processes: ForkServerContext, folder: CheckpointFolder) -> None:
    for event in EVENTS:
        shutil.rmtree(folder.root)
        folder.root.mkdir()
        saved(folder, 10)
        save(folder.root, 20)
        killed = killed_at(processes, seal, folder.root, event)
        found = prepare_resume(folder, None)
        assert found is not None and found.iteration == 20
        if not killed:
            break
    assert event > 10


def test_pruning_killed_at_any_step_leaves_the_newest_whole(
    processes: ForkServerContext, folder: CheckpointFolder
) -> None:
    for event in EVENTS:
        shutil.rmtree(folder.root)
        folder.root.mkdir()
        saved(folder, 10, 20, 30, 40)
        killed = killed_at(processes, prune, folder.root, event)
        # Of what is half deleted nothing passes for whole.
        assert all(is_whole(folder.root, m.iteration) for m in folder.valid())
        assert [m.iteration for m in folder.valid()][:2] == [40, 30]
        folder.prune(2)
        assert folder.iterations() == {30, 40}
        if not killed:
            break
    assert event > 10


def test_resuming_killed_at_any_step_can_be_done_again(processes: ForkServerContext, folder: CheckpointFolder) -> None:
    for event in EVENTS:
        shutil.rmtree(folder.root)
        folder.root.mkdir()
        saved(folder, 10, 20)
        (folder.root / "iter_0000020/.metadata").write_bytes(b"cut")
        killed = killed_at(processes, resume, folder.root, event)
        found = prepare_resume(folder, None)
        assert found is not None and found.iteration == folder.tracked() == 10
        if not killed:
            break
    assert event > 3


@pytest.mark.parametrize("name", content(20))
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_checkpoint_is_passed_over(folder: CheckpointFolder, name: str, damage: str) -> None:
    saved(folder, 10, 20)
    path = folder.root / name
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "gone":
            path.unlink()
        case _:
            path.write_bytes(bytes(len(path.read_bytes())))
    found = prepare_resume(folder, None)
    assert found is not None and found.iteration == folder.tracked() == 10


def test_damage_that_shows_in_no_time_is_found_when_every_byte_is_read(folder: CheckpointFolder) -> None:
    import os

    saved(folder, 10, 20)
    path = folder.root / "iter_0000020/.metadata"
    times = path.stat()
    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [m.iteration for m in folder.valid()] == [20, 10]
    found = prepare_resume(folder, None, thorough=True)
    assert found is not None and found.iteration == 10


def test_what_would_be_loaded_though_it_is_not_whole_is_an_error_where_there_is_no_other(
    folder: CheckpointFolder,
) -> None:
    assert prepare_resume(folder, None) is None
    save(folder.root, 10)
    (folder.root / "rollout/global_dataset_state_dict_10.pt").unlink()
    with pytest.raises(DataError, match=f"checkpoint 10 was not saved completely.*delete .*{TRACKER}"):
        prepare_resume(folder, None)
    assert folder.tracked() == 10


def test_a_copy_is_as_good(folder: CheckpointFolder, tmp_path: Path) -> None:
    saved(folder, 10)
    copy = CheckpointFolder(tmp_path / "copy")
    shutil.copytree(folder.root, copy.root, copy_function=shutil.copy)
    assert [m.iteration for m in copy.valid()] == [10]
    # The new times are noted, so that it is read once.
    assert copy.manifest(10) != folder.manifest(10)


def test_what_is_kept(folder: CheckpointFolder) -> None:
    saved(folder, 10, 20, 30, 40, 50)
    (folder.root / "hf_elsewhere").mkdir()
    (folder.root / "iter_0000060").mkdir()  # being written
    assert folder.prune(2, held=[10]) == [20, 30]
    assert folder.iterations() == {10, 40, 50, 60}
    (folder.root / TRACKER).write_text("40")
    saved(folder, 60, 70)
    (folder.root / TRACKER).write_text("40")
    assert folder.prune(2) == [10, 50]
    assert folder.iterations() == {40, 60, 70}
    assert (folder.root / "hf_elsewhere").is_dir()


def test_nothing_is_deleted_before_enough_is_valid(folder: CheckpointFolder) -> None:
    saved(folder, 10, 20, 30)
    for iteration in (20, 30):
        (folder.root / f"iter_00000{iteration}/.metadata").write_bytes(b"cut")
    assert folder.prune(2) == []
    assert folder.iterations() == {10, 20, 30}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"iteration": 1, "files": {}}', '{"iteration": 1, "files": {"../x": {}}}']
    + [
        f'{{"iteration": 1, "files": {{"{name}": {{"size": 1, "mtime_ns": 1, "sha256": ""}}}}}}'
        for name in ("/x", "../x", "a/../../x")
    ],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a manifest"):
        Manifest.from_json(text)
