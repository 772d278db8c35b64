"""Gold answers in every shape in which a data set carries them."""

import datetime
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.rewards.labels import gold_answers

SHAPES: list[tuple[Any, list[str] | None]] = [
    ("Paris", ["Paris"]),
    (["Paris", "City of Light"], ["Paris", "City of Light"]),
    (("Paris",), ["Paris"]),
    (np.array(["Paris", "London"]), ["Paris", "London"]),
    ({"target": ["Paris"]}, ["Paris"]),
    ({"target": "Paris"}, ["Paris"]),
    ({"target": np.array(["Paris"])}, ["Paris"]),
    ({"ground_truth": {"target": ["Paris", "London"]}}, ["Paris", "London"]),
    ({"ground_truth": {"target": ["Paris"]}, "style": "rule"}, ["Paris"]),
    ({"ground_truth": "Paris"}, ["Paris"]),
    ({"golden_answers": ["Paris"]}, ["Paris"]),
    ({"answers": ["Paris"]}, ["Paris"]),
    ({"answer": "Paris"}, ["Paris"]),
    ({"target": None, "answer": "Paris"}, ["Paris"]),
    (json.dumps({"ground_truth": {"target": ["Paris"]}}), ["Paris"]),
    (json.dumps(["Paris", "London"]), ["Paris", "London"]),
    (' ["Paris"]', ["Paris"]),
    (1887, ["1887"]),
    ([1887, 3.5], ["1887", "3.5"]),
    (["Paris", None, " "], ["Paris"]),
    # As Python prints containers.
    ("['Paris', 'City of Light']", ["Paris", "City of Light"]),
    ("['Paris', nan]", ["Paris"]),
    ("[nan, 'Paris']", ["Paris"]),
    ("[np.str_('Paris'), np.str_(\"L'Aquila\")]", ["Paris", "L'Aquila"]),
    ("[b'Paris', u'Rome']", ["Paris", "Rome"]),
    ("['Paris']", ["Paris"]),
    (""" ["it's", 'Paris'] """, ["it's", "Paris"]),
    ("('Paris', 'London')", ["Paris", "London"]),
    ("('Paris')", ["Paris"]),
    ("{'target': ['Paris', 'London']}", ["Paris", "London"]),
    ("{'ground_truth': {'target': ['Paris', None]}}", ["Paris"]),
    ({"target": "['Paris', 'London']"}, ["Paris", "London"]),
    (["['Paris', 'London']", "Rome"], ["Paris", "London", "Rome"]),
    # As tables change values: a column of numbers with a gap is one of floats, and the gap is NaN.
    (1990.0, ["1990"]),
    (np.float64(1990.0), ["1990"]),
    (float("nan"), None),
    (["1990", float("nan")], ["1990"]),
    ({"target": float("nan"), "answer": "Paris"}, ["Paris"]),
    (np.bool_(True), ["True"]),
    (False, ["False"]),
    (2.0**60, [str(2.0**60)]),
    (b"Paris", ["Paris"]),
    # Ordinary strings that only look like JSON or like a print.
    ("['", ["['"]),
    ("('Til Tuesday)", ["('Til Tuesday)"]),
    ("('Heroes' by Bowie)", ["('Heroes' by Bowie)"]),
    ('["Weird Al" Yankovic', ['["Weird Al" Yankovic']),
    (["['", "Paris"], ["['", "Paris"]),
    ("(1969)", ["(1969)"]),
    ("(What's the Story) Morning Glory?", ["(What's the Story) Morning Glory?"]),
    ("(1, 2)", ["(1, 2)"]),
    ("1990.0", ["1990.0"]),
    ("nan", ["nan"]),
    ("[citation needed", ["[citation needed"]),
    ("{x} is a set", ["{x} is a set"]),
    ("1887", ["1887"]),
    ('"quoted"', ['"quoted"']),
    ("null", ["null"]),
]


@pytest.mark.parametrize(("label", "expected"), SHAPES, ids=[repr(label)[:50] for label, _ in SHAPES])
def test_shapes(label: Any, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(DataError, match="no gold answer"):
            gold_answers(label)
    else:
        assert gold_answers(label) == expected


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (str(np.array(["Paris", "City of Light"])), "can't be told apart"),
        (repr(np.array(["Paris", "London"])), "can't be told apart"),
        ("['Paris', 'London", "can't be told apart"),
        ("['it's', 'Paris']", "can't be told apart"),
        ("{'target': ['Paris'", "can't be told apart"),
        ("['Paris' 'City of Light']", "can't be told apart"),
        ("{'target': array(['Paris'], dtype=object)}", "can't be told apart"),
        (datetime.datetime(1990, 5, 1), "is a date"),
        ({"target": [datetime.date(1990, 5, 1)]}, "is a date"),
    ],
)
def test_what_a_program_made_of_a_label_and_can_not_be_undone_is_refused(label: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        gold_answers(label)


def test_what_pandas_has_in_the_place_of_a_missing_value_is_passed_over() -> None:
    pd = pytest.importorskip("pandas")
    assert gold_answers([pd.NA, "Paris", pd.NaT]) == ["Paris"]
    for label, reason in ((pd.NA, "no gold answer"), (pd.NaT, "no gold answer"), (pd.Timestamp("1990-05-01"), "date")):
        with pytest.raises(DataError, match=reason):
            gold_answers(label)


def read(label: Any) -> list[str] | None:
    """The answers; None where they are refused, as an item that is the print of a list is."""
    try:
        return gold_answers(label)
    except DataError:
        return None


@given(answers=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_the_print_of_a_list_is_the_list(answers: list[str]) -> None:
    assert read(str(answers)) == read(answers)


@given(text=st.text("[]{}()'\",abc 1"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(gold_answers(text))
    except DataError as error:
        assert "label" in str(error)


@pytest.mark.parametrize(
    "label", [None, "", "  ", [], {}, {"target": []}, {"wrong_key": "Paris"}, "{}", "[]", [None], {"target": [""]}]
)
def test_a_label_without_an_answer_is_refused_with_its_value_and_the_fix(label: Any) -> None:
    with pytest.raises(DataError) as caught:
        gold_answers(label)
    message = str(caught.value)
    assert "label" in message and str(label)[:200] in message
    assert "--label-key" in message and "ground_truth" in message


@given(answers=st.lists(st.text("abc xyz", min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_wrapping_does_not_change_the_answers(answers: list[str]) -> None:
    wrapped: list[Any] = [answers, {"target": answers}, {"ground_truth": {"target": answers}}]
    for label in wrapped:
        assert gold_answers(label) == gold_answers(json.dumps(label)) == answers
