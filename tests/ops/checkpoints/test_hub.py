"""Checkpoints on a server that plays the Hub: what is there is whole, whatever is killed or fails."""

import os
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slime_search.errors import RefusedRequest, TransientFault
from slime_search.ops.checkpoints.folder import CheckpointFolder, manifest_name
from slime_search.ops.checkpoints.hub import HubRepo
from slime_search.ops.checkpoints.resume import prepare_resume
from tests.ops.checkpoints.model_hub import ModelHub
from tests.ops.checkpoints.saving import (
    NEVER,
    REPO,
    content,
    fetch,
    hub_settings,
    is_whole,
    killed_at,
    push,
    save,
    until_killed,
)
from tests.support.loopback import Fault, status


def pushed(folder: CheckpointFolder, *iterations: int) -> None:
    for iteration in iterations:
        save(folder.root, iteration)
        manifest = folder.seal_finished()
        assert manifest
        HubRepo(REPO).push(folder, manifest, keep=2)


def assert_only_whole_ones(hub: ModelHub) -> None:
    """At no time did the repository name a checkpoint of which a file was missing or another."""
    for files in hub.history:
        for iteration in range(10, 100, 10):
            if manifest_name(iteration) in files:
                assert {name: files.get(name) for name in content(iteration)} == content(iteration)


def test_the_newest_two_are_there(hub: ModelHub, folder: CheckpointFolder) -> None:
    pushed(folder, 10, 20, 30)
    assert HubRepo(REPO).iterations() == [30, 20]
    assert set(hub.repos[REPO]) == {*content(20), *content(30), manifest_name(20), manifest_name(30)}
    assert len(hub.history) == 3
    assert_only_whole_ones(hub)
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_push_killed_at_any_request_is_done_again(
    processes: ForkServerContext, hub: ModelHub, folder: CheckpointFolder
) -> None:
    """The server kills the client, before it answers or after it did what it was asked."""
    pushed(folder, 10)
    save(folder.root, 20)
    before = dict(hub.repos[REPO])
    for event in range(1, 60):
        hub.repos[REPO], hub.uploads[:] = dict(before), []
        hub.objects = {oid: data for oid, data in hub.objects.items() if data in before.values()}
        child = processes.Process(target=_push, args=(str(folder.root), hub.url))
        left = event

        def kill_at(request: web.Request) -> Fault | None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(child.pid, signal.SIGKILL)  # noqa: B023
            return None

        hub.script = kill_at
        child.start()
        child.join()
        hub.script = lambda request: None
        assert child.exitcode in (0, -signal.SIGKILL)
        pushed(folder, 20)
        assert HubRepo(REPO).iterations() == [20, 10]
        # What was sent before the kill is not sent again.
        assert len(hub.uploads) == len(set(hub.uploads))
        if child.exitcode == 0:
            break
    assert event > 6
    assert_only_whole_ones(hub)


def _push(root: str, endpoint: str) -> None:
    until_killed(push, Path(root), NEVER, endpoint)


def test_an_empty_folder_goes_on_from_the_hub(hub: ModelHub, folder: CheckpointFolder, tmp_path: Path) -> None:
    pushed(folder, 10, 20)
    fresh = CheckpointFolder(tmp_path / "fresh")
    found = prepare_resume(fresh, HubRepo(REPO))
    assert found == (20, "Hub")
    assert is_whole(fresh.root, 20) and fresh.tracked() == 20
    assert [m.iteration for m in fresh.valid(thorough=True)] == [20]
    assert not (fresh.root / ".incoming").exists()


@pytest.mark.parametrize(
    ("local", "there", "wanted"),
    [((10, 20), (10,), (20, "folder")), ((10,), (10, 20), (20, "Hub")), ((10,), (10,), (10, "folder")), ((), (), None)],
)
def test_the_newest_wins(
    hub: ModelHub, folder: CheckpointFolder, tmp_path: Path, local: tuple[int, ...], there: tuple[int, ...], wanted: Any
) -> None:
    pushed(CheckpointFolder(tmp_path / "elsewhere"), *there)
    for iteration in local:
        save(folder.root, iteration)
        folder.seal_finished()
    assert prepare_resume(folder, HubRepo(REPO)) == wanted
    assert folder.tracked() == (wanted[0] if wanted else None)


def test_a_damaged_checkpoint_is_fetched_again(hub: ModelHub, folder: CheckpointFolder) -> None:
    pushed(folder, 10, 20)
    (folder.root / "iter_0000020/.metadata").write_bytes(b"cut")
    assert prepare_resume(folder, HubRepo(REPO)) == (20, "Hub")
    assert is_whole(folder.root, 20)


def test_a_fetch_killed_at_any_step_is_done_again(
    processes: ForkServerContext, hub: ModelHub, folder: CheckpointFolder, tmp_path: Path
) -> None:
    """In a folder whose own checkpoint of that iteration is damaged, and was never sealed."""
    pushed(folder, 10, 20)
    for event in range(1, 400, 17):
        work = CheckpointFolder(tmp_path / str(event))
        save(work.root, 10)
        work.seal_finished()
        save(work.root, 20)
        (work.root / "rollout/global_dataset_state_dict_20.pt").write_bytes(b"cut")
        killed = killed_at(processes, fetch, work.root, event, hub.url)
        alone = prepare_resume(work, None)
        assert alone is not None and is_whole(work.root, alone.iteration)
        found = prepare_resume(work, HubRepo(REPO))
        assert found is not None and found.iteration == work.tracked() == 20
        assert is_whole(work.root, 20)
        shutil.rmtree(work.root)
        if not killed:
            break
    assert event > 50


def test_files_that_are_not_those_of_the_manifest_are_not_taken(hub: ModelHub, folder: CheckpointFolder) -> None:
    pushed(folder, 10, 20)
    name = "iter_0000020/__0_0.distcp"
    hub.repos[REPO][name] = bytes(len(hub.repos[REPO][name]))
    shutil.rmtree(folder.root)
    assert prepare_resume(folder, HubRepo(REPO)) == (10, "Hub")
    assert folder.iterations() == {10}


@pytest.mark.parametrize(
    ("code", "kind"), [(401, RefusedRequest), (403, RefusedRequest), (500, TransientFault), (429, TransientFault)]
)
@pytest.mark.parametrize("path", ["/api/repos/create", "preupload", "objects/batch", "/lfs/", "/commit/"])
def test_a_push_that_fails_says_whether_to_try_again(
    hub: ModelHub, folder: CheckpointFolder, path: str, code: int, kind: type[Exception]
) -> None:
    hub.script = lambda request: status(code) if path in request.path else None
    with pytest.raises(kind, match=f"^{REPO}: ") as failed:
        pushed(folder, 10)
    assert "hf_secret" not in str(failed.value)
    hub.script = lambda request: None
    pushed(folder, 10)
    assert HubRepo(REPO).iterations() == [10]


def test_a_hub_that_is_not_there_is_a_passing_fault(
    hub: ModelHub, folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in hub_settings("http://127.0.0.1:9").items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    with pytest.raises(TransientFault):
        pushed(folder, 10)
    with pytest.raises(TransientFault):
        prepare_resume(folder, HubRepo(REPO))


def test_without_a_token_nothing_is_pushed_and_a_private_repository_is_no_new_start(
    hub: ModelHub, folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RefusedRequest, match="HF_TOKEN: not set"):
        pushed(folder, 10)
    with pytest.raises(RefusedRequest, match="does HF_TOKEN belong"):
        prepare_resume(folder, HubRepo(REPO))
