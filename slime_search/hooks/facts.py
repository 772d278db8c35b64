"""What is counted of one rollout: what was asked, how it ended, what it took, what it is worth."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from slime_search.core.trajectory import UNSCORED
from slime_search.errors import DataError
from slime_search.hooks.contract import Sample, reward_number
from slime_search.hooks.samples import RECORD_KEY, SECONDS_KEY, role_of
from slime_search.rewards.labels import gold_answers

EXECUTOR = "executor"
"""The role of CoDA's executors, and the key of their number in the details of a planner's call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFacts:
    """One rollout, all agents' contexts together. The last of its contexts is that of the agent that answers.

    ``score`` holds the parts of the reward by name. ``turns`` are the model's, ``corrections`` those that were answered
    by a correction, and ``validity`` says of each whole turn whether it held a valid action. ``searches`` are calls of
    a search tool, and a Thinker's questions to its Searcher; a planner's tasks are none, but their searches are.
    ``own_calls`` are those of the answering agent, tasks included. ``latencies_s`` has one number a search, in seconds
    with queueing and retries; ``wall_s`` is the rollout's.
    """

    id: str = ""
    group: str = ""
    """The same for all attempts at one question."""
    recipe: str = ""
    source: str = ""
    """The data set."""
    stage: str = ""
    question: str
    gold_answers: tuple[str, ...]
    answer: str | None
    ending: str | None
    error: str | None
    failed_service: str | None
    reward: float | None
    score: Mapping[str, float]
    turns: int
    corrections: int
    validity: tuple[bool, ...] = field(default=(), compare=False)
    """Samples tell it, and lines of JSON do not."""
    searches: int
    own_calls: int
    latencies_s: tuple[float, ...]
    model_tokens: int
    world_tokens: int
    wall_s: float | None = None
    delegates: bool = False
    """Whether the answering agent can call on another one."""

    @property
    def is_scored(self) -> bool:
        """Whether it tells anything of the model: it ended, and no service or trainer ended it."""
        return self.ending is not None and self.ending not in UNSCORED

    @property
    def right(self) -> bool | None:
        """Whether the answer is an exact match or, where none was looked for, earned anything; None if unknown."""
        value = self.score.get("em", self.reward)
        return None if value is None or self.ending in UNSCORED else value > 0

    @property
    def delegated(self) -> bool | None:
        """Whether the answering agent called on another one; None where it has no other."""
        return self.own_calls > 0 if self.delegates else None

    @property
    def failed_by(self) -> str | None:
        """The service that kept it from a score. An engine that aborts says nothing of itself."""
        if self.is_scored:
            return None
        return self.failed_service or ("unknown" if self.ending == "failed" else "engine")


def facts_of(samples: Sequence[Sample]) -> RolloutFacts:
    """The facts on one rollout whose ``samples`` ``write_back`` has written."""
    records = [sample.metadata[RECORD_KEY] for sample in samples]
    last, ending = records[-1], samples[-1]
    segments = [segment for record in records for segment in record["segments"]]
    searches = [call for record in records for call in record["calls"] if EXECUTOR not in call["details"]]
    return RolloutFacts(
        source=ending.metadata.get("data_source") or "",
        question=question_of(ending),
        gold_answers=gold_of(ending),
        answer=last["answer"],
        ending=last["ending"],
        error=last["error"],
        failed_service=last["failed_service"],
        reward=reward_number(ending.reward),
        score=last.get("score", {}),
        turns=sum(turns_of(segment["owner"] for segment in record["segments"]) for record in records),
        corrections=sum(segment["is_correction"] for segment in segments),
        # A turn that an abort left unfinished was not judged yet.
        validity=tuple(s["is_valid"] for s in segments if s.get("is_valid") is not None),
        searches=len(searches),
        own_calls=len(last["calls"]),
        latencies_s=tuple(call["latency_s"] for call in searches),
        model_tokens=sum(segment["length"] for segment in segments if segment["owner"] == "model"),
        world_tokens=sum(segment["length"] for segment in segments if segment["owner"] == "world"),
        delegates=can_delegate(ending),
    )


def turns_of(owners: Any) -> int:
    """The model's turns in one context, by the owners of its segments; a turn may be several segments."""
    return sum(owner == "model" for owner, _ in groupby(owners))


def can_delegate(sample: Sample) -> bool:
    """Whether a sample is of an agent that can call on another: a planner's, or a Thinker's."""
    return role_of(sample) not in (None, EXECUTOR) or SECONDS_KEY in sample.metadata[RECORD_KEY]


def question_of(sample: Sample) -> str:
    """What a sample asks: its metadata's ``question``, or what its prompt says after its last ``Question:``, or all."""
    asked = sample.metadata.get("question")
    if asked:
        return str(asked)
    return question_in(sample.prompt if isinstance(sample.prompt, str) else str(sample.prompt[-1]["content"]))


def question_in(prompt: str) -> str:
    """What a prompt says after its last ``Question:``, up to the end of the line, or all of it."""
    _, mark, rest = prompt.rpartition("Question:")
    return re.split(r"\n|<\|", rest.strip(), maxsplit=1)[0] if mark else prompt


def gold_of(sample: Sample) -> tuple[str, ...]:
    """A sample's gold answers; none where its label has another shape."""
    try:
        return tuple(gold_answers(sample.label))
    except DataError:
        return ()
