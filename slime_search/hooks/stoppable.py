"""``python -m slime_search.hooks.stoppable TRAIN_PY …``: slime's training, which saves a checkpoint before it stops.

slime saves every so many steps and after its last one, and can't be told to stop. Here the first SIGTERM, SIGINT or
SIGHUP, or a file STOP in the folder of ``--save``, lets the step under way end, and saves it. The second signal ends
everything at once.

The training has a session of its own: a signal to the process group, as Ctrl-C sends it and tmux on its end, would take
Ray's processes away from under it. It ends with this process, however that ends.
"""

import ctypes
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from slime_search.hooks.contract import Args, option

STOP_FILE = "STOP"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """The step that was under way is saved."""


class Stop:
    """Whether the training is to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def is_due(self, args: Args) -> bool:
        """Asked after each step; takes the file away, so that the next run is not stopped by it."""
        save = option(args, "save")
        file = Path(save) / STOP_FILE if save else None
        if file is not None and file.exists():
            file.unlink()
            self.requested = True
        return self.requested


def saving_first(args: Args, is_due: Callable[..., bool], stop: Stop) -> Callable[..., bool]:
    """slime's ``should_run_periodic_action``, which answers that it is time to save where the training is to stop.

    slime asks it after each step: with ``num_rollout`` whether to save, and then without it whether to evaluate. The
    second time the step has been saved.
    """

    def asked(
        rollout_id: int, interval: int | None, num_rollout_per_epoch: int | None = None, num_rollout: int | None = None
    ) -> bool:
        saves = num_rollout is not None
        if saves and stop.is_due(args):
            # slime waits for a save in the background only after its last step.
            args.num_rollout = rollout_id + 1
            _say(f"step {rollout_id} is done{f' and goes to {args.save}' if args.save else ''}; stopping")
            return args.save is not None
        if not saves and stop.requested:
            raise Stopped
        return is_due(rollout_id, interval, num_rollout_per_epoch, num_rollout)

    return asked


def train(path: Path, stop: Stop) -> None:
    """Runs slime's ``train.py``, whose arguments are this process's. Raises Stopped once a step is saved."""
    spec = importlib.util.spec_from_file_location("slime_train", path)
    assert spec is not None and spec.loader is not None
    slime: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slime)
    args = slime.parse_args()
    slime.should_run_periodic_action = saving_first(args, slime.should_run_periodic_action, stop)
    slime.train(args)


def main() -> None:
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python -m slime_search.hooks.stoppable SLIME_HOME/train.py OPTIONS")
    del sys.argv[0]
    stop = Stop()
    # Before there is a child, which inherits it: a signal may come at any time.
    for number in (signal.SIGUSR1, signal.SIGINT):
        # Ray stops a job by a SIGINT to each of its processes, and so to the child, too.
        signal.signal(number, stop.request)
    parent, child = os.getpid(), os.fork()
    if child:
        sys.exit(_watch(child))
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    try:
        train(Path(sys.argv[0]), stop)
    except Stopped:
        _say("the training has stopped; the same command goes on from there")


def _watch(child: int) -> int:
    """The child's exit code; where signal n stopped it, 128 + n, as a shell has it."""
    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            _say(f"{signal.Signals(number).name}: the step under way will be saved; a second signal ends it at once")
            os.kill(child, signal.SIGUSR1)
        else:
            os.killpg(child, signal.SIGKILL)

    for number in _SIGNALS:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if received and code <= 0:
        return 128 + received[0]
    return 128 - code if code < 0 else code


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
