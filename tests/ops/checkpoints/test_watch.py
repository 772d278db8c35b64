"""``python -m slime_search.cli checkpoints`` beside a process that plays the training."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slime_search.ops.checkpoints.folder import CheckpointFolder, manifest_name
from tests.ops.checkpoints.model_hub import ModelHub
from tests.ops.checkpoints.saving import REPO, is_whole, save
from tests.support.loopback import status
from tests.support.processes import wait_until

TOKEN = "hf_s3cr3t"


def environment(hub: ModelHub | None) -> dict[str, str]:
    settings = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "COLUMNS": "300"}
    return os.environ | settings | ({"HF_ENDPOINT": hub.url} if hub else {})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "slime_search.cli", "checkpoints", *arguments]


@contextmanager
def watching(root: Path, hub: ModelHub | None, *options: str) -> Iterator[subprocess.Popen[str]]:
    quick = ("--poll-s", "0.1", "--retry-s", "0.1", *(("--hub", REPO) if hub else ()))
    argv = command("watch", str(root), *quick, *options)
    process = subprocess.Popen(argv, env=environment(hub), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], *, code: int) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert TOKEN not in output
    return output


@contextmanager
def training() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_it_keeps_and_pushes_the_newest_two_until_the_training_ends(hub: ModelHub, folder: CheckpointFolder) -> None:
    with training() as trainer, watching(folder.root, hub, "--until-pid", str(trainer.pid)) as watcher:
        for iteration in (10, 20, 30):
            save(folder.root, iteration)
            wait_until(lambda: manifest_name(iteration) in hub.repos.get(REPO, {}))  # noqa: B023
        wait_until(lambda: folder.iterations() == {20, 30})
        # Ctrl-C reaches the whole terminal, and the training saves once more before it ends.
        watcher.send_signal(signal.SIGINT)
        save(folder.root, 40)
        trainer.kill()
        output = ended(watcher, code=0)
    assert "checkpoint 40 is on the Hub" in output
    assert folder.iterations() == {30, 40}
    assert {n for n in range(0, 100, 10) if manifest_name(n) in hub.repos[REPO]} == {30, 40}


def test_a_hub_that_fails_is_asked_again(hub: ModelHub, folder: CheckpointFolder) -> None:
    refused = 0

    def script(request: object) -> object:
        nonlocal refused
        refused += 1
        return status(429) if refused <= 4 else None

    hub.script = script  # type: ignore[assignment]
    save(folder.root, 10)
    with watching(folder.root, hub) as watcher:
        wait_until(lambda: manifest_name(10) in hub.repos.get(REPO, {}))
        watcher.send_signal(signal.SIGTERM)
        ended(watcher, code=0)
    assert refused > 4


def test_a_hub_that_refuses_costs_the_training_nothing(hub: ModelHub, folder: CheckpointFolder) -> None:
    hub.script = lambda request: status(403)
    with training() as trainer, watching(folder.root, hub, "--until-pid", str(trainer.pid)) as watcher:
        for iteration in (10, 20, 30):
            save(folder.root, iteration)
            wait_until(lambda: folder.manifest(iteration))  # noqa: B023
        wait_until(lambda: folder.iterations() == {20, 30})
        assert trainer.poll() is None
        trainer.kill()
        output = ended(watcher, code=1)
    assert "none will be" in output and "does HF_TOKEN belong to somebody who may write there?" in output
    assert f"checkpoint 30 is not on the Hub; it is in {folder.root}" in output
    assert is_whole(folder.root, 20) and is_whole(folder.root, 30)


def test_a_watcher_killed_at_any_moment_is_followed_by_another(hub: ModelHub, folder: CheckpointFolder) -> None:
    for iteration in (30, 40, 50):
        save(folder.root, iteration)
        with watching(folder.root, hub) as watcher:
            wait_until(lambda: watcher.poll() is None and hub.requests)
            watcher.kill()
        hub.requests.clear()
    with watching(folder.root, hub) as watcher:
        # The one before may have brought it there in the moment that it was killed, when this one is not up yet.
        wait_until(lambda: hub.requests and manifest_name(50) in hub.repos.get(REPO, {}))
        watcher.send_signal(signal.SIGINT)
        ended(watcher, code=0)
    assert max(folder.iterations()) == 50 and is_whole(folder.root, 50)


def test_two_do_not_look_after_one_folder(folder: CheckpointFolder) -> None:
    save(folder.root, 10)
    with watching(folder.root, None) as first:
        wait_until(lambda: folder.manifest(10))
        with watching(folder.root, None) as second:
            assert second.stdout is not None
            assert "waiting until it ends" in second.stdout.readline()
            first.send_signal(signal.SIGTERM)
            ended(first, code=0)
            save(folder.root, 20)
            wait_until(lambda: folder.manifest(20))
            second.send_signal(signal.SIGTERM)
            ended(second, code=0)


def resumed(root: Path, hub: ModelHub | None, *options: str) -> "subprocess.CompletedProcess[str]":
    argv = command("resume", str(root), *(("--hub", REPO) if hub else ()), *options)
    return subprocess.run(argv, env=environment(hub), capture_output=True, text=True, check=False)


def test_resume_says_from_where(hub: ModelHub, folder: CheckpointFolder, tmp_path: Path) -> None:
    assert resumed(folder.root, hub).stdout == "none\n"
    save(folder.root, 10)
    with watching(folder.root, hub) as watcher:
        wait_until(lambda: manifest_name(10) in hub.repos.get(REPO, {}))
        watcher.send_signal(signal.SIGTERM)
        ended(watcher, code=0)
    assert resumed(folder.root, hub, "--thorough").stdout == "10 folder\n"
    assert resumed(tmp_path / "fresh", hub).stdout == "10 Hub\n"
    hub.script = lambda request: status(403)
    failed = resumed(folder.root, hub)
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.startswith(f"error: {REPO}: ") and TOKEN not in failed.stderr


def test_what_is_no_repository_is_refused(folder: CheckpointFolder) -> None:
    argv = command("watch", str(folder.root), "--hub", "nobody")
    done = subprocess.run(argv, env=environment(None), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "write owner/name" in done.stderr


def test_a_folder_that_is_not_there_yet_is_waited_for_aloud(tmp_path: Path) -> None:
    with training() as process, watching(tmp_path / "none", None, "--until-pid", str(process.pid)) as watcher:
        wait_until(lambda: (tmp_path / "none").exists())
        process.kill()
        process.wait()
        assert ended(watcher, code=0).count("none: does not exist yet; waiting until the training saves there") == 1
