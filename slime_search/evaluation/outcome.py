"""What an evaluation keeps in memory of one rollout: its scores and what it cost."""

from dataclasses import dataclass

from slime_search.hooks.coda_metrics import EXECUTOR
from slime_search.rollouts.record import Rollout
from slime_search.trajectory import UNSCORED

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
