"""``build-index`` with the hashing encoder, in a process that is killed at a chosen step.

python slow_build.py STEP OPTIONS…: the process kills itself at its STEP-th write, 0 for never.
"""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType

from slime_search.cli import build_index as command
from tests.retrieval.vectors.hashing_encoder import HashingEncoder

left = int(sys.argv[1])


def count_down(event: str, args: tuple[object, ...]) -> None:
    """Every file that is opened to write, renamed or deleted in the store is a step."""
    global left
    if event == "open":
        touched = isinstance(args[1], str) and args[1] != "r" and args[1] != "rb"
    else:
        touched = event in ("os.rename", "os.remove", "os.mkdir")
    if touched and STORE in str(args[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


STORE = str(Path(sys.argv[sys.argv.index("--output") + 1]))
# In place of the module, whose imports would take most of the test's time.
loading = ModuleType("slime_search.retrieval.encoders.loading")
loading.load_encoder = lambda *args, **options: HashingEncoder()  # type: ignore[attr-defined]
sys.modules[loading.__name__] = loading
sys.addaudithook(count_down)
command.app(sys.argv[2:])
