"""Trainings that save the step under way before they stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes import command_lines, wait_until

LOOP = Path(__file__).with_name("training_loop.py")


class Run:
    """The wrapper in a process group of its own, as a terminal or tmux would start it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._stderr = folder / "stderr"
        command = [sys.executable, "-m", "slime_search.hooks.stoppable", str(LOOP), "--gate", str(folder)]
        with self._stderr.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--save", str(folder), *options], stderr=file, start_new_session=True
            )

    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_step(self, number: int) -> None:
        wait_until(lambda: f"step {number}" in self.said() or self.process.poll() is not None)

    def go(self, *steps: int) -> None:
        for step in steps:
            (self.folder / f"go-{step}").touch()

    def wait_until_told(self) -> None:
        """The first signal has arrived, and is passed on."""
        wait_until(lambda: "the step under way will be saved" in self._stderr.read_text())

    def end(self) -> tuple[int, str]:
        self.process.wait(timeout=90)
        return self.process.returncode, self._stderr.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in command_lines(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_group_saves_the_step_under_way(folder: Path, number: signal.Signals) -> None:
    run = Run(folder)
    run.go(0)
    run.wait_for_step(1)
    os.killpg(run.process.pid, number)
    run.wait_until_told()
    assert run.said() == ["step 0", "step 1"], "the step goes on"
    run.go(1)
    code, stderr = run.end()
    assert (code, run.said()) == (128 + number, ["step 0", "step 1", "saved 1 and waited"])
    assert f"step 1 is done and goes to {folder}" in stderr


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_step(0)
    run.process.send_signal(signal.SIGTERM)
    run.wait_until_told()
    run.process.send_signal(signal.SIGTERM)
    assert run.end()[0] == 143
    assert run.said() == ["step 0"]
    wait_until(lambda: not command_lines(folder))


def test_it_ends_with_whoever_watches_it(folder: Path) -> None:
    run = Run(folder)
    run.wait_for_step(0)
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not command_lines(folder))


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
    run.wait_until_told()
    run.go(0)
    code, stderr = run.end()
    assert code == 1 and "disk full" in stderr


def test_without_a_training_it_says_how_to_use_it() -> None:
    command = [sys.executable, "-m", "slime_search.hooks.stoppable", "/no/train.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("usage: python -m slime_search.hooks.stoppable")
