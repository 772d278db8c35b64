"""``python -m slime_search.rehearsal.guard COMMAND …``: a program of others that ends with whoever started it.

Our own servers end when their standard input does (``--exit-with-parent``). SGLang, its router and Ray know no such
thing and start processes of their own, so each runs under this one: in a process group that is ended as a whole on
SIGTERM, on SIGINT, and when the pipe at standard input closes, which it does even when the parent is killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

GRACE_S = 15.0
"""Between SIGTERM and SIGKILL. Ray takes some seconds to take leave of its workers."""


def run(command: Sequence[str]) -> int:
    """Runs the command to its end, or to ours, and returns its exit code."""
    asked = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    def on_end_of_input() -> None:
        while os.read(0, 4096):
            pass
        asked.set()

    def end_when_asked() -> None:
        asked.wait()
        _end(process)

    # Before the command is started, so that a signal that comes meanwhile is not lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    for work in (on_end_of_input, end_when_asked):
        threading.Thread(target=work, daemon=True).start()
    code = process.wait()
    # What it has left behind, such as an engine's workers.
    _signal(process, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(run([argument for argument in sys.argv[1:] if argument != "--exit-with-parent"]))
