"""The numbers of one rollout that an evaluation takes means of."""

from collections.abc import Sequence
from typing import Any

from slime_search.core.trajectory import UNSCORED
from slime_search.errors import DataError
from slime_search.hooks.facts import RolloutFacts
from slime_search.hooks.samples import RECORD_KEY, read_trajectory
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.search import retrieval_hit
from slime_search.rewards.text import cover_exact_match, exact_match, f1

METRICS = ("em", "f1", "cover_em", "retrieval_hit", "searches", "response_tokens")
"""What has a mean and an interval. The first four lie in [0, 1], the others are counts a rollout."""
SHARES = METRICS[:4]


def values_of(facts: RolloutFacts) -> tuple[float, ...]:
    """One number for each of METRICS. ``response_tokens`` are what the policy sampled, in all contexts."""
    return (*(facts.score[name] for name in SHARES), float(facts.searches), float(facts.model_tokens))


def check_score(facts: RolloutFacts) -> None:
    """Raises DataError where a rollout that tells something of the model lacks a score."""
    missing = [name for name in SHARES if name not in facts.score]
    if facts.is_scored and missing:
        raise DataError(f"score: {', '.join(missing)} missing, which an evaluation's rollouts have")


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
