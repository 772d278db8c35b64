"""One rollout as a line of JSON: who wrote each token, what was searched, how it was scored.

Evaluations, ``slime-search rollout`` and the quickstart write these lines, and the pages read them.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slime_search.core.tokens import well_formed
from slime_search.core.trajectory import UNSCORED
from slime_search.errors import DataError

Owner: TypeAlias = Literal["prompt", "model", "world"]
Ending: TypeAlias = Literal["answered", "truncated", "out_of_turns", "failed", "aborted"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def displayable(text: Any) -> Any:
    """``text`` as a page can hold it. Other types pass through.

    Lone surrogates and control characters become U+FFFD, those included that turn the direction of what follows.
    """
    return _CONTROL.sub("\ufffd", well_formed(text)) if isinstance(text, str) else text


def _displayable_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {displayable(key): _displayable_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_displayable_json(inner) for inner in value]
    return displayable(value)


Text = Annotated[str, BeforeValidator(displayable)]
Json = Annotated[dict[str, Any], BeforeValidator(_displayable_json)]
LogProb = Annotated[float, BeforeValidator(lambda value: -math.inf if value is None else value)]
"""JSON has no -inf, so a line holds null in its place."""


class Record(BaseModel):
    """Base of everything that pages read: checked, and never changed."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Passage(Record):
    title: Text
    text: Text


class Call(Record):
    """One tool call that returned. ``turn`` counts the model's turns from 0."""

    turn: int
    tool: Text
    query: Text
    passages: tuple[Passage, ...]
    latency_s: float
    details: Json = {}


class Segment(Record):
    """A run of tokens with one owner. ``tokens`` are decoded one by one, for display.

    ``token_ids`` and ``log_probs`` (natural log, the engine's), where there are any, have one value a token.
    ``trained`` says whether the loss mask is 1.
    """

    owner: Owner
    trained: bool
    tokens: tuple[Text, ...]
    token_ids: tuple[int, ...] | None = None
    log_probs: tuple[LogProb, ...] | None = None
    is_correction: bool = False

    @model_validator(mode="after")
    def _one_value_a_token(self) -> "Segment":
        for name in ("token_ids", "log_probs"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tokens):
                raise ValueError(f"{name} has {len(values)} values for {len(self.tokens)} tokens")
        if any(math.isnan(value) for value in self.log_probs or ()):
            raise ValueError("log_probs holds NaN; a log-probability is a number or -inf")
        return self

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Disagreement(Record):
    """A token of the model's, and its log-probability to the model and to its teacher, in nats."""

    text: Text
    student: float
    teacher: float


class Run(Record):
    """One context of a rollout: its only agent's, or one of several. ``segments`` begin with the prompt."""

    role: Text | None = None
    ending: Ending | None
    answer: Text | None
    segments: tuple[Segment, ...]
    calls: tuple[Call, ...] = ()
    advantage: float | None = None
    """What training multiplied this context's tokens by, before any clipping; None outside training."""
    disagreements: tuple[Disagreement, ...] = ()
    """Where model and teacher differ most, if there is a teacher."""


class Rollout(Record):
    """One attempt at one question. The last of ``runs`` is the agent that answers.

    ``id`` is unique among the rollouts of a file, ``group`` is shared by all attempts at one question, and ``score``
    holds the parts of the reward by name. ``wall_s`` is seconds from the first request to the last answer. ``stage``
    names which policy spoke, where a file has several: a training step, a checkpoint.
    """

    id: Text
    group: Text
    recipe: Text = ""
    source: Text = ""
    """The data set that the question is from."""
    stage: Text = ""
    question: Text
    gold_answers: tuple[Text, ...] = ()
    answer: Text | None
    ending: Ending | None
    error: Text | None = None
    reward: float | None = None
    score: dict[str, float] = {}
    wall_s: float | None = Field(None, ge=0)
    runs: Annotated[tuple[Run, ...], Field(min_length=1)]

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every agent's."""
        return tuple(call for run in self.runs for call in run.calls)

    @property
    def right(self) -> bool | None:
        """Whether the answer is an exact match or, where none was looked for, earned anything; None if unknown.

        What infrastructure ended is neither right nor wrong, as in an evaluation's scores.
        """
        value = self.score.get("em", self.reward)
        return None if value is None or self.ending in UNSCORED else value > 0

    def tokens_of(self, owner: Owner) -> int:
        """How many tokens ``owner`` wrote, in all contexts."""
        return sum(len(s.tokens) for run in self.runs for s in run.segments if s.owner == owner)

    def line(self) -> bytes:
        """The rollout as a line of a JSON Lines file, its end included."""
        return orjson.dumps(self.model_dump(exclude_defaults=True), option=orjson.OPT_APPEND_NEWLINE)


def read_rollout(row: Mapping[str, Any]) -> Rollout:
    """Checks one row.

    Raises:
        DataError: it lacks a field or holds a bad value; the message names both.
    """
    try:
        return Rollout.model_validate(row)
    except ValidationError as error:
        raise DataError(explain("rollout", error)) from None


def explain(root: str, error: ValidationError) -> str:
    """The first of pydantic's complaints in one line: place, reason, value."""
    first, *others = error.errors(include_url=False)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    value = repr(first["input"])
    value = value if len(value) <= 80 else f"{value[:80]}…"
    more = f" ({len(others)} more such errors)" if others else ""
    return f"{root}{place}: {first['msg']}; got {value}{more}"
