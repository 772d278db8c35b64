"""Which rollouts are shown, and in which order: the list's filters, in an address and on the command line alike."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from slime_search.errors import DataError
from slime_search.records.rollout import Ending, explain
from slime_search.viewer.library import Entry, Library

Sort: TypeAlias = Literal["", "reward", "searches", "tokens", "latency", "question"]
# A form sends each of its fields, the empty ones too.
Number = Annotated[float | None, BeforeValidator(lambda value: None if value == "" else value)]
Whole = Annotated[int | None, BeforeValidator(lambda value: None if value == "" else value)]


class Selection(BaseModel):
    """Every field that is set narrows what is shown. ``text`` is looked for in questions and answers.

    ``checkpoint`` is a name of the library's. ``sort`` is empty for the order of the files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    result: Literal["", "right", "wrong"] = ""
    reward_min: Number = None
    reward_max: Number = None
    searches_min: Whole = None
    searches_max: Whole = None
    ending: Ending | Literal[""] = ""
    recipe: str = ""
    source: str = ""
    checkpoint: str = ""
    group: str = ""
    sort: Sort = ""
    descending: bool = False

    def query(self) -> str:
        """The part of an address after its question mark."""
        return urlencode(self.model_dump(exclude_defaults=True))

    @property
    def is_everything(self) -> bool:
        return not self.model_dump(exclude_defaults=True, exclude={"sort", "descending"})


def read_selection(fields: Mapping[str, Any]) -> Selection:
    """Checks the fields of an address or a command line.

    Raises:
        DataError: a field is unknown or out of range; the message names it.
    """
    try:
        return Selection.model_validate(fields)
    except ValidationError as error:
        raise DataError(explain("filter", error)) from None


def select(library: Library, selection: Selection) -> list[int]:
    """The numbers of the rollouts that are shown, in order.

    Raises:
        DataError: the library has no such checkpoint.
    """
    entries = library.entries
    if selection.checkpoint and selection.checkpoint not in library.checkpoints:
        raise DataError(f"checkpoint: {selection.checkpoint!r} is not one of {', '.join(library.checkpoints)}")
    words = selection.text.casefold().split()
    chosen = [
        number
        for number, entry in enumerate(entries)
        if _fits(entry, selection)
        and (not selection.checkpoint or library.checkpoint_of(entry) == selection.checkpoint)
        and _mentions(entry, words)
    ]
    if selection.sort:
        known = [number for number in chosen if _key(entries[number], selection.sort) is not None]
        unknown = [number for number in chosen if _key(entries[number], selection.sort) is None]
        known.sort(key=lambda number: _key(entries[number], selection.sort), reverse=selection.descending)
        return known + unknown
    return chosen[::-1] if selection.descending else chosen


def _fits(entry: Entry, wanted: Selection) -> bool:
    return (
        (not wanted.result or entry.right == (wanted.result == "right"))
        and _within(entry.reward, wanted.reward_min, wanted.reward_max)
        and _within(entry.searches, wanted.searches_min, wanted.searches_max)
        and (not wanted.ending or entry.ending == wanted.ending)
        and (not wanted.recipe or entry.recipe == wanted.recipe)
        and (not wanted.source or entry.source == wanted.source)
        and (not wanted.group or entry.group == wanted.group)
    )


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _mentions(entry: Entry, words: Iterable[str]) -> bool:
    said = f"{entry.question}\n{entry.answer or ''}".casefold() if words else ""
    return all(word in said for word in words)


def _key(entry: Entry, sort: Sort) -> Any:
    match sort:
        case "latency":
            return entry.latency_s
        case "question":
            return entry.question.casefold()
        case _:
            return getattr(entry, sort)
