"""How far a training is, told from the dumps that slime writes after each rollout."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress, TaskID

from slime_search.records.slime_dump import DUMP_NAME
from slime_search.viewer.dump_metrics import dumps_of, read_dumps


def training_dumps(folder: Path) -> list[Path]:
    """The dumps of training steps, in their order; those of evaluations are left out."""
    return [path for path in dumps_of(folder) if not path.name.startswith("eval_")]


def step_of(dump: Path) -> int:
    """The step whose rollouts are in a dump, counted from 0."""
    match = DUMP_NAME.fullmatch(dump.name)
    assert match is not None
    return int(match["step"])


class Watch:
    """Called again and again, it moves a progress bar on with each new dump."""

    def __init__(self, folder: Path, progress: Progress, steps: int) -> None:
        self._folder = folder
        self._progress = progress
        note = "slime is starting; it has a log of its own"
        self._task: TaskID = progress.add_task("Training", total=steps, note=note)
        self._seen = 0

    def __call__(self) -> None:
        dumps = training_dumps(self._folder)
        if len(dumps) > self._seen:
            self._seen = len(dumps)
            self._progress.update(self._task, completed=step_of(dumps[-1]) + 1, note=_reward(dumps[:-1]))


def _reward(whole: Sequence[Path]) -> str:
    """The mean reward of the newest dump that is surely whole; that after it may still be written."""
    if not whole:
        return ""
    rows = read_dumps(whole[-1:], Progress(disable=True))
    return f"reward {rows[0]['reward']:.2f}" if rows and "reward" in rows[0] else ""
