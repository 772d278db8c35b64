"""The numbers that the quickstart prints and keeps of a step's rollouts."""

from typing import Any

import pytest

from slime_search.hooks.contract import LocalSample
from slime_search.local.rollouts import rollout_stats
from tests.hooks.test_metrics import sample


def of_the_quickstart(*arguments: Any, hops: int = 1, **options: Any) -> LocalSample:
    made = sample(*arguments, **options)
    made.metadata["hops"], made.reward = hops, 0.5
    return made


def test_each_ending_is_counted_by_itself() -> None:
    stats = rollout_stats(
        [
            of_the_quickstart(em=1.0),
            of_the_quickstart(em=0.0, hops=2),
            of_the_quickstart("truncated", em=0.0),
            of_the_quickstart("out_of_turns", em=0.0, latencies_s=(0.1, 0.1, 0.1)),
            of_the_quickstart("failed", em=0.0),
        ]
    )
    assert (stats.n, stats.em, stats.em_two_hops) == (4, 0.25, 0.0)
    assert (stats.truncated, stats.out_of_turns, stats.failed) == (0.25, 0.25, 0.2)
    assert stats.searches == pytest.approx(6 / 4)
