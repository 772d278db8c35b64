"""The scores of an evaluation, where a recipe's own reward leaves none."""

from collections.abc import Sequence
from typing import Any

from slime_search.evaluation.outcome import SHARES
from slime_search.hooks.samples import RECORD_KEY, read_trajectory
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.search import retrieval_hit
from slime_search.rewards.text import cover_exact_match, exact_match, f1
from slime_search.trajectory import UNSCORED

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
