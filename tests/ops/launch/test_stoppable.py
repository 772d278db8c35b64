"""Trainings that save the step under way before they stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.launch.launched import wait_for

LOOP = Path(__file__).with_name("training_loop.py")


class Run:
    """The wrapper in a process group of its own, as a terminal or tmux would start it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "slime_search.hooks.stoppable", str(LOOP), "--gate", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--save", str(folder), *options], stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_step(self, number: int) -> None:
        wait_for(lambda: f"step {number}" in self.said() or self.process.poll() is not None)

    def go(self, *steps: int) -> None:
        for step in steps:
            (self.folder / f"go-{step}").touch()

    def children(self) -> list[str]:
        """Command lines of what works in this run's folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in command:
                found.append(command)
        return found

    def end(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=90)
        return self.process.returncode, stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = str(tmp_path).encode() in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if ours and int(entry.name) != os.getpid():
            os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_group_saves_the_step_under_way(folder: Path, number: signal.Signals) -> None:
    run = Run(folder)
    run.go(0)
    run.wait_for_step(1)
    os.killpg(run.process.pid, number)
    time.sleep(0.2)
    assert run.said() == ["step 0", "step 1"], "the step goes on"
    run.go(1)
    code, stderr = run.end()
    assert (code, run.said()) == (128 + number, ["step 0", "step 1", "saved 1 and waited"])
    assert "the step under way will be saved" in stderr and f"step 1 is done and goes to {folder}" in stderr


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_step(0)
    run.process.send_signal(signal.SIGTERM)
    wait_for(lambda: run.process.poll() is None)
    time.sleep(0.3)
    run.process.send_signal(signal.SIGTERM)
    assert run.end()[0] == 143
    assert run.said() == ["step 0"]
    wait_for(lambda: not run.children())


def test_it_ends_with_whoever_watches_it(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_step(0)
    run.process.kill()
    run.process.wait()
    wait_for(lambda: not run.children())


def test_a_file_stops_it_once(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_step(0)
    (folder / "STOP").touch()
    run.go(0)
    code, _ = run.end()
    assert (code, run.said()) == (0, ["step 0", "saved 0 and waited"])
    again = Run(folder)
    again.go(0, 1, 2, 3)
    assert again.end()[0] == 0
    assert again.said()[-2:] == ["saved 3 and waited", "done"]


def test_a_training_that_fails_says_so_even_when_it_was_stopped(folder: Path) -> None:
    run = Run(folder, "--fails")
    run.wait_for_step(0)
    run.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    run.go(0)
    code, stderr = run.end()
    assert code == 1 and "disk full" in stderr


def test_without_a_training_it_says_how_to_use_it() -> None:
    command = [sys.executable, "-m", "slime_search.hooks.stoppable", "/no/train.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("usage: python -m slime_search.hooks.stoppable")
