"""What slime logged to TensorBoard, with the metrics that ``hooks/metrics.py`` adds."""

import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.progress import Progress

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.metrics import PREFIX
from slime_search.report.curve import Metric

_KEYS = ("em", "searches", "truncated", "failed")
_TRAINING: Mapping[str, str] = {
    "rollout/raw_reward": "reward",
    "rollout/response_len/mean": "response_tokens",
    **{PREFIX + key: key for key in _KEYS},
}
"""slime's tags, and what the panels call them."""
_EVALUATION = re.compile(rf"eval/(?P<set>.+)/(?:{PREFIX}(?P<key>{'|'.join(_KEYS)})|(?P<length>response_len/mean))")
Scalars = dict[str, dict[int, float]]


def read_events(paths: Sequence[Path], progress: Progress) -> list[Metric]:
    """A row a training step, and a row an evaluation's step and test set.

    slime writes from several processes, and a run that was resumed writes steps again: of equal steps the value that
    was written last counts.

    Raises:
        ConfigError: the ``tensorboard`` package is not installed.
        DataError: none of the scalars is one of slime's or slime-search's.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tensorboard not installed. Run: pip install 'slime-search[curves]'")
    scalars = _scalars(paths, progress)
    rows = [*_rows("train", _training(scalars)), *_evaluations(scalars)]
    if not rows:
        tags = ", ".join(sorted(scalars)[:8]) or "none"
        raise DataError(f"{paths[0].parent}: none of its scalars is of a rollout or an evaluation; it has {tags}")
    return rows


def _scalars(paths: Sequence[Path], progress: Progress) -> Scalars:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    written: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for path in progress.track(paths, description="reading events"):
        # A file at a time: together, steps of another process would look like a restart and be thrown away.
        events = EventAccumulator(str(path), size_guidance={SCALARS: 0}, purge_orphaned_data=False).Reload()
        for tag in events.Tags()[SCALARS]:
            for event in events.Scalars(tag):
                before = written[tag].get(event.step)
                if before is None or event.wall_time >= before[0]:
                    written[tag][event.step] = event.wall_time, event.value
    return {tag: {step: value for step, (_, value) in steps.items()} for tag, steps in written.items()}


def _training(scalars: Scalars) -> Scalars:
    return {key: scalars[tag] for tag, key in _TRAINING.items() if tag in scalars}


def _evaluations(scalars: Scalars) -> Iterator[Metric]:
    sets: dict[str, Scalars] = defaultdict(dict)
    for tag, steps in scalars.items():
        if match := _EVALUATION.fullmatch(tag):
            sets[match["set"]][match["key"] or "response_tokens"] = steps
    for name, known in sets.items():
        if f"eval/{name}" in scalars:
            known["reward"] = scalars[f"eval/{name}"]
        yield from _rows("eval", known, {"set": name})


def _rows(phase: str, known: Scalars, more: Mapping[str, str] | None = None) -> Iterator[Metric]:
    for step in sorted({step for steps in known.values() for step in steps}):
        values = {key: steps[step] for key, steps in known.items() if step in steps}
        yield {"phase": phase, "step": step, **(more or {}), **values}
