"""Held-out scores of the current weights."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.hooks.samples import RECORD_KEY, rollouts_of
from slime_search.trajectory import Ending


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """Means over rollouts: ``em`` … ``failed`` are shares, the rest counts a rollout.

    ``em_two_hops`` is of the questions that take two facts, ``searches`` are the calls of the answering agent.
    """

    n: int
    em: float
    em_two_hops: float
    reward: float
    answered: float
    well_formed: float
    retrieval_hit: float
    truncated: float
    failed: float
    searches: float
    response_tokens: float


def rollout_stats(samples: Sequence[Any]) -> RolloutStats:
    """Summarises finished rollouts; those that failed count in ``failed`` and nowhere else."""
    # The last sample of a rollout is the one that answers.
    rollouts = [rollout[-1] for rollout in rollouts_of(samples)]
    live = [sample for sample in rollouts if not sample.remove_sample]
    scores = [sample.metadata[RECORD_KEY]["score"] for sample in live]
    records = [sample.metadata[RECORD_KEY] for sample in live]

    def mean(values: Sequence[float]) -> float:
        return round(statistics.fmean(values), 4) if values else 0.0

    return RolloutStats(
        n=len(live),
        em=mean([s["em"] for s in scores]),
        em_two_hops=mean([s["em"] for s, sample in zip(scores, live, strict=True) if sample.metadata["hops"] == 2]),
        reward=mean([sample.reward for sample in live]),
        answered=mean([s["answered"] for s in scores]),
        well_formed=mean([s["well_formed"] for s in scores]),
        retrieval_hit=mean([s["retrieval_hit"] for s in scores]),
        truncated=mean([float(r["ending"] in (Ending.TRUNCATED, Ending.OUT_OF_TURNS)) for r in records]),
        failed=mean([float(sample.remove_sample) for sample in rollouts]),
        searches=mean([len(r["calls"]) for r in records]),
        response_tokens=mean([sample.response_length for sample in live]),
    )
