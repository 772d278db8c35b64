"""All the files that are shown, as one list of rollouts."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slime_search.core.trajectory import UNSCORED
from slime_search.errors import DataError
from slime_search.hooks.metrics import EXECUTOR
from slime_search.records.rollout import Rollout, displayable, read_rollout


@dataclass(frozen=True, slots=True)
class Entry:
    """One rollout as the list has it. Its line has ``length`` bytes, from ``offset`` on.

    ``searches`` are every agent's, without the tasks that a planner hands out; ``tokens`` those that the model wrote;
    ``latency_s`` is the longest call's.
    """

    file: int
    offset: int
    length: int
    id: str
    group: str
    recipe: str
    source: str
    stage: str
    question: str
    answer: str | None
    ending: str | None
    reward: float | None
    right: bool | None
    searches: int
    tokens: int
    latency_s: float


def index_file(path: Path, *, file: int, on_bytes: Callable[[int], None] = lambda _: None) -> list[Entry]:
    """The entries of a JSON Lines file, in its order. Blank lines and an unfinished last line are passed over.

    Args:
        file: the number that the entries carry.
        on_bytes: is told how many bytes were read since it was last told.

    Raises:
        DataError: a line is no rollout; it names file, line and field.
    """
    entries: list[Entry] = []
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    entries.append(_entry(orjson.loads(line), file, offset, len(line)))
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        break
                    raise DataError(f"{path}, line {number}: not JSON ({error}); a line holds one rollout") from None
                except DataError as error:
                    raise DataError(f"{path}, line {number}: {error}") from None
            offset += len(line)
            on_bytes(len(line))
    return entries


def read_entry(path: Path, entry: Entry) -> Rollout:
    """The rollout itself.

    Raises:
        DataError: the file is gone, its line holds something else by now, or a bad value.
    """
    try:
        with path.open("rb") as file:
            file.seek(entry.offset)
            row = orjson.loads(file.read(entry.length))
        changed = row["id"] != entry.id
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError):
        changed = True
    if changed:
        raise DataError(f"{path}: changed since it was opened; start slime-search view again")
    return read_rollout(row)


def _entry(row: Any, file: int, offset: int, length: int) -> Entry:
    """Without checking each token, which takes twenty times as long and is done when a rollout is opened."""
    try:
        return _entry_of(row, file, offset, length)
    except (AttributeError, KeyError, TypeError, ValueError):
        # The record knows which field it is; if it finds none, the fault is ours.
        read_rollout(row)
        raise


def _entry_of(row: Mapping[str, Any], file: int, offset: int, length: int) -> Entry:
    reward = row.get("reward")
    value = (row.get("score") or {}).get("em", reward)
    question, answer = row["question"], row["answer"]
    if not isinstance(question, str) or not isinstance(answer, str | None):
        raise TypeError("question and answer are texts")
    runs = row["runs"]
    calls = [call for run in runs for call in run.get("calls", ())]
    segments = (segment for run in runs for segment in run["segments"] if segment["owner"] == "model")
    return Entry(
        file=file,
        offset=offset,
        length=length,
        id=row["id"],
        group=row["group"],
        recipe=_shared(row.get("recipe")),
        source=_shared(row.get("source")),
        stage=_shared(row.get("stage")),
        question=displayable(question),
        answer=displayable(answer),
        ending=row["ending"] and sys.intern(row["ending"]),
        reward=None if reward is None else float(reward),
        right=None if value is None or row["ending"] in UNSCORED else float(value) > 0,
        searches=sum(EXECUTOR not in call.get("details", ()) for call in calls),
        tokens=sum(len(segment["tokens"]) for segment in segments),
        latency_s=max((float(call["latency_s"]) for call in calls), default=0.0),
    )


def _shared(text: str | None) -> str:
    """One string for the thousands of equal ones."""
    return sys.intern(displayable(text or ""))


class Indexed(NamedTuple):
    """A file of rollouts. ``lines`` is where they are read, ``path`` what the user named."""

    path: Path
    lines: Path
    entries: list[Entry]


class Library:
    """Rollouts of several files, numbered from 0 through all of them.

    A *checkpoint* is what one policy said: a stage of a file, or a file that has only one. Its name is the shortest
    that tells it from the others.
    """

    def __init__(self, files: Sequence[Indexed], *, metrics: Path | None = None) -> None:
        self._files = files
        self.metrics = metrics
        """A ``metrics.jsonl`` beside the rollouts."""
        self.entries: list[Entry] = [entry for file in files for entry in file.entries]

    def read(self, number: int) -> Rollout:
        """Raises DataError: the file changed or is gone, or the rollout holds a bad value."""
        entry = self.entries[number]
        return read_entry(self._files[entry.file].lines, entry)

    def checkpoint_of(self, entry: Entry) -> str:
        return self._names[entry.file, entry.stage]

    @cached_property
    def checkpoints(self) -> list[str]:
        return list(self._names.values())

    @cached_property
    def numbers_of(self) -> dict[str, list[int]]:
        """The rollouts of each question."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, entry in enumerate(self.entries):
            numbers[entry.question].append(number)
        return dict(numbers)

    def values(self, field: str) -> list[str]:
        """What occurs in a field of the entries, in the order in which it first does."""
        return list(dict.fromkeys(value for entry in self.entries if (value := getattr(entry, field))))

    @property
    def title(self) -> str:
        """Of the page: the files, a single one with its folder."""
        paths = [file.path for file in self._files]
        return "/".join(paths[0].absolute().parts[-2:]) if len(paths) == 1 else ", ".join(labels_of(paths))

    @cached_property
    def _names(self) -> dict[tuple[int, str], str]:
        labels = labels_of([file.path for file in self._files])
        keys = list(dict.fromkeys((entry.file, entry.stage) for entry in self.entries))
        stages = [stage for _, stage in keys]
        names = {}
        for file, stage in keys:
            if stage and stages.count(stage) == 1:
                names[file, stage] = stage
            else:
                names[file, stage] = f"{labels[file]}: {stage}" if stage else labels[file]
        return names


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Each path without the folders that all share."""
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath([path.absolute() for path in paths])
    return [str(path.absolute().relative_to(common)) for path in paths]


def share_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known: of answers that are right or wrong, the share of the right ones."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
