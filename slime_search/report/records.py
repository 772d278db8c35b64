"""The records a page is made of, checked: one trajectory as the quickstart writes it, and the run's summary."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from slime_search.errors import DataError
from slime_search.tokens import well_formed

Owner: TypeAlias = Literal["prompt", "model", "world"]
Ending: TypeAlias = Literal["answered", "truncated", "out_of_turns", "failed", "aborted"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def displayable(text: Any) -> Any:
    """``text`` as a page can hold it. Other types pass through.

    Lone surrogates and control characters become U+FFFD, those included that turn the direction of what follows.
    """
    return _CONTROL.sub("\ufffd", well_formed(text)) if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(displayable)]
Rate = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Passage(_Record):
    title: Text
    text: Text


class Search(_Record):
    query: Text
    passages: tuple[Passage, ...]
    latency_s: float


class Segment(_Record):
    """A run of tokens with one owner. ``tokens`` are decoded pieces; ``log_probs``, if any, has one value a token."""

    owner: Owner
    trained: bool
    tokens: tuple[Text, ...]
    log_probs: tuple[float, ...] | None

    @model_validator(mode="after")
    def _one_log_prob_a_token(self) -> "Segment":
        if self.log_probs is not None:
            if len(self.log_probs) != len(self.tokens):
                raise ValueError(f"log_probs has {len(self.log_probs)} values for {len(self.tokens)} tokens")
            if any(math.isnan(value) for value in self.log_probs):
                raise ValueError("log_probs holds NaN; a log-probability is a number or -inf")
        return self

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Disagreement(_Record):
    """A token of the model's, and its log-probability to the model and to its teacher, in nats."""

    text: Text
    student: float
    teacher: float


class Trajectory(_Record):
    stage: Literal["before", "after"]
    question: Text
    gold_answers: tuple[Text, ...]
    answer: Text | None
    reward: float
    em: float
    ending: Ending
    searches: tuple[Search, ...]
    segments: tuple[Segment, ...]
    disagreements: tuple[Disagreement, ...] = ()
    """Where model and teacher differ most, if there is a teacher."""


class Summary(_Record):
    """The headline numbers. Rates lie in [0, 1]; ``questions`` counts the held-out questions behind them.

    Other keys are kept, in ``model_extra``.
    """

    model_config = ConfigDict(extra="allow")

    seed: int
    em_before: Rate
    em_after: Rate
    em_before_greedy: Rate | None = None
    em_after_greedy: Rate | None = None
    wall_s: float = Field(ge=0)
    steps: int = Field(ge=0)
    model_parameters: int = Field(gt=0)
    questions: int = Field(gt=0)


_TRAJECTORIES = TypeAdapter(list[Trajectory])


def read_trajectories(records: Sequence[Mapping[str, Any]]) -> list[Trajectory]:
    """Checks trajectory records.

    Raises:
        DataError: a record lacks a field or holds a bad value; the message names both.
    """
    try:
        return _TRAJECTORIES.validate_python(records)
    except ValidationError as error:
        raise DataError(_message("trajectories", error)) from None


def read_summary(summary: Mapping[str, Any]) -> Summary:
    """Checks the summary.

    Raises:
        DataError: a headline number is missing or out of range; the message names it.
    """
    try:
        return Summary.model_validate({displayable(key): value for key, value in summary.items()})
    except ValidationError as error:
        raise DataError(_message("summary", error)) from None


def _message(root: str, error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    value = repr(first["input"])
    value = value if len(value) <= 80 else f"{value[:80]}…"
    more = f" ({len(others)} more such errors)" if others else ""
    return f"{root}{place}: {first['msg']}; got {value}{more}"
