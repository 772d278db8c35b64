"""Which rollouts are shown, and in which order: the list's filters, in an address and on the command line alike."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from slime_search.errors import DataError
from slime_search.hooks.facts import RolloutFacts
from slime_search.records.rollout import Ending, explain
from slime_search.viewer.library import Library

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
        if _fits(entry.facts, selection)
        and (not selection.checkpoint or library.checkpoint_of(entry) == selection.checkpoint)
        and _mentions(entry.facts, words)
    ]
    if selection.sort:
        keys = {number: _key(entries[number].facts, selection.sort) for number in chosen}
        known = [number for number in chosen if keys[number] is not None]
        known.sort(key=keys.__getitem__, reverse=selection.descending)
        return known + [number for number in chosen if keys[number] is None]
    return chosen[::-1] if selection.descending else chosen


def _fits(facts: RolloutFacts, wanted: Selection) -> bool:
    return (
        (not wanted.result or facts.right == (wanted.result == "right"))
        and _within(facts.reward, wanted.reward_min, wanted.reward_max)
        and _within(facts.searches, wanted.searches_min, wanted.searches_max)
        and (not wanted.ending or facts.ending == wanted.ending)
        and (not wanted.recipe or facts.recipe == wanted.recipe)
        and (not wanted.source or facts.source == wanted.source)
        and (not wanted.group or facts.group == wanted.group)
    )


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _mentions(facts: RolloutFacts, words: Iterable[str]) -> bool:
    said = f"{facts.question}\n{facts.answer or ''}".casefold() if words else ""
    return all(word in said for word in words)


def _key(facts: RolloutFacts, sort: Sort) -> Any:
    match sort:
        case "tokens":
            return facts.model_tokens
        case "latency":
            return max(facts.latencies_s, default=0.0)
        case "question":
            return facts.question.casefold()
        case _:
            return getattr(facts, sort)
