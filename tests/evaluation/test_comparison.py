"""Paired differences, flips and delegation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.evaluation.comparison import compare
from tests.evaluation.scored_rollouts import failed, rollout, scored

ems = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=12)


@settings(max_examples=10)
@given(both=ems)
def test_a_comparison_turned_round_has_the_opposite_difference(both: list[tuple[float, float]]) -> None:
    a, b = scored(*(one for one, _ in both)), scored(*(one for _, one in both))
    there, back = compare(a, b), compare(b, a)
    forwards, backwards = there.average.change["em"], back.average.change["em"]
    assert forwards.mean == pytest.approx(-backwards.mean)
    assert (forwards.low, forwards.high) == pytest.approx((-backwards.high, -backwards.low))
    assert forwards.mean == pytest.approx((len(there.won) - len(there.lost)) / len(both))
    assert [pair.first.id for pair in there.won] == [pair.first.id for pair in back.lost]


def test_a_run_is_no_different_from_itself() -> None:
    run = scored(1, 0, 1, 0)
    comparison = compare(run, run)
    assert comparison.average.change["em"] == (0, 0, 0)
    assert not comparison.lost and not comparison.won


def test_pairing_makes_a_steady_gain_certain() -> None:
    """B adds one question to A's; with the hard and easy ones paired, only that question varies."""
    a = scored(*[1.0] * 50, *[0.0] * 50)
    b = scored(*[1.0] * 60, *[0.0] * 40)
    interval = compare(a, b).average.change["em"]
    assert interval.mean == pytest.approx(0.1)
    assert interval.low > 0


def test_only_questions_that_both_answered_count() -> None:
    a = [*scored(1, 1, 1), failed(3).facts]
    b = [*scored(0, 1), failed(2).facts, rollout(3).facts, rollout(4).facts]
    comparison = compare(a, b)
    assert comparison.average.questions == 2
    assert (comparison.only_a, comparison.only_b) == (1, 2)
    assert comparison.average.change["em"].mean == -0.5
    assert [pair.first.group for pair in comparison.lost] == ["nq/0"]


def test_the_same_place_in_another_file_is_another_question() -> None:
    with pytest.raises(DataError, match="no question in common: A has 2 scored questions of nq"):
        compare(scored(1, 1), [rollout(0, question="Who is else?").facts, *scored(1, source="popqa")])


def test_with_samples_a_question_is_right_when_half_of_them_are() -> None:
    a = [rollout(0, number, em=float(number == 0)).facts for number in range(2)]
    b = [rollout(0, number, em=float(number == 0)).facts for number in range(4)]
    comparison = compare(a, b)
    assert [pair.first.group for pair in comparison.lost] == ["nq/0"]
    assert comparison.average.change["em"].mean == -0.25


def test_delegation_is_told_with_what_the_other_run_did_there() -> None:
    alone = [{"ending": "answered", "answer": "x", "segments": ()}]
    a = scored(1, 0, 0, 1, delegates=True, runs=alone)
    b = [
        *scored(1, 1, 0, delegates=True),
        rollout(3, em=0, delegates=True, runs=alone).facts,
    ]
    of_a, of_b = compare(a, b).delegation
    assert of_a is not None and of_b is not None
    assert (of_a.delegated, of_a.em_delegated, of_a.em_other, of_a.em_alone) == (0, None, None, 0.5)
    assert (of_b.delegated, of_b.em_alone) == (0.75, 0)
    assert of_b.em_delegated == pytest.approx(2 / 3)
    assert of_b.em_other == pytest.approx(1 / 3)


def test_a_recipe_of_one_agent_has_no_delegation() -> None:
    assert compare(scored(1), scored(0)).delegation == (None, None)
