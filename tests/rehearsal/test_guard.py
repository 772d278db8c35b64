"""Programs of others end with whoever started them, and so does all that they have started."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import command_lines, wait_until

FAMILY = """
import subprocess, sys, signal, time
if sys.argv[2] == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
open(sys.argv[1] + "/up", "w").close()
time.sleep(600)
"""


def started(folder: Path, *more: str, grace_s: float = 15.0) -> subprocess.Popen[bytes]:
    code = "import sys; from slime_search.rehearsal import guard\n"
    code += f"guard.GRACE_S = {grace_s}; sys.exit(guard.run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, sys.executable, "-c", FAMILY, str(folder), *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    wait_until((folder / "up").exists)
    wait_until(lambda: len(command_lines(folder)) == 3)
    return process


@pytest.mark.parametrize("end", ["input", "signal"])
def test_a_program_and_its_children_end(end: str, tmp_path: Path) -> None:
    with started(tmp_path, "heeds") as process:
        if end == "input":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    wait_until(lambda: not command_lines(tmp_path))


def test_one_that_does_not_heed_sigterm_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, "deaf", grace_s=0.2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGKILL
    wait_until(lambda: not command_lines(tmp_path))


def test_the_exit_code_is_the_programs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slime_search.rehearsal.guard", sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen([*command, "--exit-with-parent"], stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 7
