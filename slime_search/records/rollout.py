"""One rollout as a line of JSON: who wrote each token, what was searched, how it was scored.

Evaluations, ``slime-search rollout`` and the quickstart write these lines, and the pages read them.
"""

import math
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slime_search.core.tokens import well_formed
from slime_search.errors import DataError
from slime_search.hooks.facts import EXECUTOR, RolloutFacts
from slime_search.validation import reason

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
    failed_service: Text | None = None
    delegates: bool = False
    """Whether the agent that answers can call on another one."""
    reward: float | None = None
    score: dict[str, float] = {}
    wall_s: float | None = Field(None, ge=0)
    runs: Annotated[tuple[Run, ...], Field(min_length=1)]

    @cached_property
    def facts(self) -> RolloutFacts:
        """What a reader of the line counts."""
        return facts_of_row(orjson.loads(self.line()))

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


def facts_of_row(row: Any) -> RolloutFacts:
    """The facts on the rollout of a line, without a look at each token, which takes twenty times as long.

    Raises:
        DataError: it is no rollout; the message names the field.
    """
    try:
        return _facts_of_row(row)
    except (AttributeError, KeyError, TypeError, ValueError):
        # The record knows which field it is; if it finds none, the fault is ours.
        read_rollout(row)
        raise


def _facts_of_row(row: Mapping[str, Any]) -> RolloutFacts:
    question, answer, reward = row["question"], row["answer"], row.get("reward")
    if not isinstance(question, str) or not isinstance(answer, str | None):
        raise TypeError("question and answer are texts")
    runs = row["runs"]
    searches = [call for run in runs for call in run.get("calls", ()) if EXECUTOR not in call.get("details", ())]
    turns = corrections = 0
    tokens = {"prompt": 0, "model": 0, "world": 0}
    for run in runs:
        before = ""
        for segment in run["segments"]:
            owner = segment["owner"]
            # A turn may be several segments.
            turns += owner == "model" != before
            corrections += segment.get("is_correction", False)
            tokens[owner] += len(segment["tokens"])
            before = owner
    return RolloutFacts(
        id=row["id"],
        group=row["group"],
        recipe=_shared(row.get("recipe")),
        source=_shared(row.get("source")),
        stage=_shared(row.get("stage")),
        question=displayable(question),
        gold_answers=tuple(map(displayable, row.get("gold_answers", ()))),
        answer=displayable(answer),
        ending=row["ending"] and sys.intern(row["ending"]),
        error=displayable(row.get("error")),
        failed_service=row.get("failed_service"),
        reward=None if reward is None else float(reward),
        score={sys.intern(name): float(value) for name, value in row.get("score", {}).items()},
        turns=turns,
        corrections=corrections,
        searches=len(searches),
        own_calls=len(runs[-1].get("calls", ())),
        latencies_s=tuple(float(call["latency_s"]) for call in searches),
        model_tokens=tokens["model"],
        world_tokens=tokens["world"],
        wall_s=row.get("wall_s"),
        delegates=row.get("delegates", False),
    )


def _shared(text: str | None) -> str:
    """One string for the thousands of equal ones."""
    return sys.intern(displayable(text or ""))


def explain(root: str, error: ValidationError) -> str:
    """The first of pydantic's complaints in one line: field, reason, value."""
    first, *others = error.errors(include_url=False)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    value = repr(first["input"])
    value = value if len(value) <= 80 else f"{value[:80]}…"
    more = f" ({len(others)} more such errors)" if others else ""
    return f"{root}{where}: {reason(first)}; got {value}{more}"
