"""All the files that are shown, as one list of rollouts."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import orjson

from slime_search.errors import DataError
from slime_search.hooks.facts import RolloutFacts
from slime_search.records.rollout import Rollout, facts_of_row, read_rollout


class Entry(NamedTuple):
    """One rollout as the list has it. Its line has ``length`` bytes, from ``offset`` on."""

    file: int
    offset: int
    length: int
    facts: RolloutFacts


def index_file(path: Path, *, file: int, on_bytes: Callable[[int], None] = lambda _: None) -> list[Entry]:
    """The entries of a JSON Lines file, in its order. Blank lines and an unfinished last line are passed over.

    Args:
        file: the number that the entries carry.
        on_bytes: takes the number of bytes that were read since it was last called.

    Raises:
        DataError: a line is no rollout; it names file, line and field.
    """
    entries: list[Entry] = []
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    entries.append(Entry(file, offset, len(line), facts_of_row(orjson.loads(line))))
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
        changed = row["id"] != entry.facts.id
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError):
        changed = True
    if changed:
        raise DataError(f"{path}: changed since it was opened; start slime-search view again")
    return read_rollout(row)


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
        return self._names[entry.file, entry.facts.stage]

    @cached_property
    def checkpoints(self) -> list[str]:
        return list(self._names.values())

    @cached_property
    def numbers_of(self) -> dict[str, list[int]]:
        """The rollouts of each question."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, entry in enumerate(self.entries):
            numbers[entry.facts.question].append(number)
        return dict(numbers)

    def values(self, field: str) -> list[str]:
        """What occurs in a field of the facts, in the order in which it first does."""
        return list(dict.fromkeys(value for entry in self.entries if (value := getattr(entry.facts, field))))

    @property
    def title(self) -> str:
        """Of the page: the files, a single one with its folder."""
        paths = [file.path for file in self._files]
        return "/".join(paths[0].absolute().parts[-2:]) if len(paths) == 1 else ", ".join(labels_of(paths))

    @cached_property
    def _names(self) -> dict[tuple[int, str], str]:
        labels = labels_of([file.path for file in self._files])
        keys = list(dict.fromkeys((entry.file, entry.facts.stage) for entry in self.entries))
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
