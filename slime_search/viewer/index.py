"""One pass over a file of rollouts, which keeps of each line what a list shows and where the line is."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from slime_search.errors import DataError
from slime_search.hooks.coda_metrics import EXECUTOR
from slime_search.rollouts.record import Rollout, displayable, read_rollout
from slime_search.trajectory import UNSCORED


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
