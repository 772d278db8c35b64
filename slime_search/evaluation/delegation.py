"""When an agent called on another one (a Thinker on its Searcher, a planner on executors), and whether that paid."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slime_search.evaluation.outcome import Outcome


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
