"""A run's metrics, from whatever of it is on the disk."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from slime_search.curves.dumps import dumps_of, read_dumps
from slime_search.errors import DataError
from slime_search.report.curve import Metric

METRICS = "metrics.jsonl"
_EVENTS = "events.out.tfevents.*"


def read_run(path: Path, progress: Progress) -> list[Metric]:
    """The rows of one run, as ``report.panels.draw_panels`` takes them.

    ``path`` is a quickstart's folder, a folder of slime's dumps, or one of TensorBoard's.

    Raises:
        DataError: it is none of these, or a file in it can't be read; the message names it.
        ConfigError: it is TensorBoard's, and the package is not installed.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist; name the folder of a run")
    if (path / METRICS).exists() or path.suffix == ".jsonl":
        return read_metrics(path / METRICS if path.is_dir() else path)
    if dumps := dumps_of(path):
        return read_dumps(dumps, progress)
    if events := sorted(path.rglob(_EVENTS)):
        from slime_search.curves.tensorboard_log import read_events

        return read_events(events, progress)
    raise DataError(f"{path}: holds no {METRICS}, no dumps (N.pt, eval_N.pt) and no {_EVENTS}; name a run's folder")


def read_metrics(path: Path) -> list[Metric]:
    """The lines of a quickstart's file. A last line that is still being written is left out.

    Raises:
        DataError: the file can't be read, or a line is not a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({error})") from None
    rows: list[Metric] = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not a JSON object")
        rows.append(row)
    return rows


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
