"""The numbers of a run over its steps: a quickstart's metrics, slime's dumps, or what slime logged to TensorBoard."""

import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.progress import Progress

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.metrics import PREFIX
from slime_search.viewer.curve import Metric
from slime_search.viewer.dump_metrics import dumps_of, read_dumps

METRICS = "metrics.jsonl"
_EVENTS = "events.out.tfevents.*"
_KEYS = ("em", "searches", "truncated", "out_of_turns", "failed")
_TRAINING: Mapping[str, str] = {
    "rollout/raw_reward": "reward",
    "rollout/response_len/mean": "response_tokens",
    **{PREFIX + key: key for key in _KEYS},
}
"""slime's tags, and what the panels call them."""
_EVALUATION = re.compile(rf"eval/(?P<set>.+)/(?:{PREFIX}(?P<key>{'|'.join(_KEYS)})|(?P<length>response_len/mean))")
Scalars = dict[str, dict[int, float]]
"""Values by step, by tag."""


def names_of(paths: Sequence[Path]) -> list[str]:
    """The runs' names: the shortest ends of their paths that tell them apart.

    Raises:
        DataError: one is named twice.
    """
    whole = [path.resolve() for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path in paths if whole.count(path.resolve()) > 1)
        raise DataError(f"{twice}: named twice")
    for length in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-length:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in whole]


def read_run(path: Path, progress: Progress, *, reward_key: str | None = None) -> list[Metric]:
    """The rows of one run, as ``panels.draw_panels`` takes them.

    Args:
        path: a quickstart's folder, a folder of slime's dumps, or one of TensorBoard's.
        reward_key: slime's ``--reward-key``, where the rewards of dumps are dicts.

    Raises:
        DataError: it is none of these, or a file in it can't be read; the message names it.
        ConfigError: it is TensorBoard's, and the package is not installed.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist; name the folder of a run")
    if (path / METRICS).exists() or path.suffix == ".jsonl":
        return read_metrics(path / METRICS if path.is_dir() else path)
    if dumps := dumps_of(path):
        return read_dumps(dumps, progress, reward_key=reward_key)
    if events := sorted(path.rglob(_EVENTS)):
        return read_events(events, progress)
    raise DataError(f"{path}: holds no {METRICS}, no dumps (N.pt, eval_N.pt) and no {_EVENTS}; name a run's folder")


def read_metrics(path: Path) -> list[Metric]:
    """The lines of a quickstart's file. A last line that is still being written is left out.

    Raises:
        DataError: the file can't be read, or a line is not a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "name a file that can be read") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text, so it holds no metrics", "name the folder of a run") from None
    rows: list[Metric] = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict) or not isinstance(row.get("phase"), str) or not _is_step(row.get("step")):
            raise DataError(
                f"{path}, line {number}: {line[:80].rstrip()!r} is no object with a phase and a step",
                f"name the folder of a run, or its {METRICS}",
            )
        rows.append(row)
    return rows


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
