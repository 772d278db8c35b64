"""Bootstrap intervals: what they hold by construction, and scipy's on the same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from slime_search.evaluation.bootstrap import average_intervals, drawn_means, intervals
from slime_search.evaluation.summary import summarize
from tests.evaluation.scored_rollouts import rollout, scored

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(lambda values: np.array(values)[:, None])


@settings(max_examples=10)
@given(values=shares)
def test_an_interval_lies_in_the_range_of_its_values_and_holds_the_mean_of_likely_draws(values: np.ndarray) -> None:
    (interval,) = intervals(values, drawn_means(values, seed=0, name="nq"))
    assert interval.mean == pytest.approx(values.mean())
    assert values.min() - 1e-9 <= interval.low <= interval.high <= values.max() + 1e-9


@settings(max_examples=10)
@given(value=st.floats(0, 1), questions=st.integers(1, 30))
def test_questions_that_are_all_alike_leave_nothing_uncertain(value: float, questions: int) -> None:
    values = np.full((questions, 2), value)
    for interval in intervals(values, drawn_means(values, seed=0, name="nq")):
        assert interval == pytest.approx((value, value, value))


def test_draws_are_seeded() -> None:
    values = np.random.default_rng(1).random((30, 1))
    first = drawn_means(values, seed=0, name="nq")
    assert (first == drawn_means(values, seed=0, name="nq")).all()
    assert (first != drawn_means(values, seed=1, name="nq")).any()
    assert (first != drawn_means(values, seed=0, name="popqa")).any()


def test_intervals_are_those_of_scipy() -> None:
    values = np.random.default_rng(2).random(200) < 0.3
    ours = intervals(values[:, None].astype(float), drawn_means(values[:, None].astype(float), seed=0, name="nq"))[0]
    theirs = stats.bootstrap(
        (values.astype(float),), np.mean, method="percentile", rng=np.random.default_rng(3), vectorized=True
    ).confidence_interval
    # Both are draws of the same thing: ends differ by a fraction of the standard error.
    assert ours.low == pytest.approx(theirs.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.high, abs=0.006)


def test_more_samples_of_the_same_questions_make_nothing_more_certain() -> None:
    """Questions are drawn, not samples: 40 questions with four equal samples each tell no more than with one."""
    ems = [float(place % 3 == 0) for place in range(40)]
    once = summarize(scored(*ems), ["nq"], seed=0)
    four = [rollout(place, number, em=em).facts for place, em in enumerate(ems) for number in range(4)]
    assert summarize(four, ["nq"], seed=0).sets["nq"].metrics == once.sets["nq"].metrics


def test_the_average_counts_each_set_the_same_and_is_surer_than_a_small_set() -> None:
    small, large = np.random.default_rng(4).random((20, 1)), np.random.default_rng(5).random((400, 1))
    draws = [drawn_means(values, seed=0, name=name) for values, name in ((small, "a"), (large, "b"))]
    (average,) = average_intervals([small, large], draws)
    (alone,) = intervals(small, draws[0])
    assert average.mean == pytest.approx((small.mean() + large.mean()) / 2)
    assert average.high - average.low < alone.high - alone.low
