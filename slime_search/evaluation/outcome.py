"""What an evaluation keeps in memory of one rollout: its scores and what it cost."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slime_search.core.trajectory import UNSCORED
from slime_search.hooks.metrics import EXECUTOR
from slime_search.hooks.samples import RECORD_KEY, read_trajectory
from slime_search.records.rollout import Rollout
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.search import retrieval_hit
from slime_search.rewards.text import cover_exact_match, exact_match, f1

METRICS = ("em", "f1", "cover_em", "retrieval_hit", "searches", "response_tokens")
"""What has a mean and an interval. The first four lie in [0, 1], the others are counts a rollout."""
SHARES = METRICS[:4]
_DELEGATING = ("thinker-searcher", "coda")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rollout. ``values`` holds one number for each of METRICS, and nothing where infrastructure failed it.

    ``searches`` are counted as in training: calls of a search tool, a planner's tasks not counted but their searches;
    a Thinker's are its questions to the Searcher. ``response_tokens`` are what the policy sampled, in all contexts.
    ``latency_s`` is wall time in seconds, queues included.
    """

    id: str
    question_id: str
    source: str
    question: str
    gold_answers: tuple[str, ...]
    answer: str | None
    values: tuple[float, ...]
    latency_s: float
    delegated: bool | None
    """Whether the answering agent called on another one; None in a recipe of one agent."""
    service: str | None = None
    """Which service failed it."""
    error: str | None = None

    @property
    def failed(self) -> bool:
        return not self.values

    @property
    def em(self) -> float:
        return self.values[0]


def outcome_of(rollout: Rollout) -> Outcome:
    """The outcome of a rollout. One that a service failed, or that was aborted, is never scored."""
    failed = rollout.ending is None or rollout.ending in UNSCORED
    service, error = None, None
    if failed:
        error = rollout.error or f"the rollout was {rollout.ending or 'not finished'}"
        # A ServiceError's message begins with the service; an engine that aborts says nothing.
        service = rollout.error.partition(" at ")[0].rpartition(": ")[2] if rollout.error else "engine"
    return Outcome(
        id=rollout.id,
        question_id=rollout.group,
        source=rollout.source,
        question=rollout.question,
        gold_answers=rollout.gold_answers,
        answer=rollout.answer,
        values=() if failed else _values(rollout),
        latency_s=rollout.wall_s or 0.0,
        delegated=bool(rollout.runs[-1].calls) if rollout.recipe in _DELEGATING else None,
        service=service,
        error=error,
    )


def _values(rollout: Rollout) -> tuple[float, ...]:
    searches = sum(EXECUTOR not in call.details for call in rollout.calls)
    shares = tuple(rollout.score[name] for name in SHARES)
    return (*shares, float(searches), float(rollout.tokens_of("model")))


@dataclass(frozen=True, slots=True)
class Delegation:
    """Shares of one run's rollouts. An exact match is None where there is no such rollout.

    An agent chooses when to delegate, so ``em_delegated`` and ``em_alone`` are of different questions. ``em_other`` is
    the other run's on the questions that this one delegated.
    """

    rollouts: int
    delegated: float
    em_delegated: float | None
    em_other: float | None
    em_alone: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def delegation_of(questions: Sequence[tuple[Sequence[Outcome], Sequence[Outcome]]]) -> Delegation | None:
    """Of a run whose scored samples of each question stand before the other run's. None for a recipe of one agent."""
    rollouts = [(one, other) for samples, other in questions for one in samples if one.delegated is not None]
    if not rollouts:
        return None
    asked = [(one, other) for one, other in rollouts if one.delegated]
    return Delegation(
        len(rollouts),
        len(asked) / len(rollouts),
        _mean([one.em for one, _ in asked]),
        _mean([statistics.fmean(sample.em for sample in other) for _, other in asked]),
        _mean([one.em for one, _ in rollouts if not one.delegated]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


_SCORERS = {"em": exact_match, "f1": f1, "cover_em": cover_exact_match}


def complete_score(samples: Sequence[Any]) -> None:
    """Adds to the record of a rollout's last sample, which answers, the shares that its score lacks.

    A failed or aborted rollout gets none.

    Raises:
        DataError: another generate function wrote the samples.
    """
    last = samples[-1]
    trajectory, record = read_trajectory(last), last.metadata[RECORD_KEY]
    score = record.get("score", {})
    if trajectory.ending in UNSCORED or score.keys() >= set(SHARES):
        return
    answer, gold = trajectory.answer, gold_answers(last.label)
    measured = {name: 0.0 if answer is None else scorer(answer, gold) for name, scorer in _SCORERS.items()}
    measured["retrieval_hit"] = max(retrieval_hit(read_trajectory(sample), gold) for sample in samples)
    record["score"] = measured | score
