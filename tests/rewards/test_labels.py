"""Gold answers in every shape in which a data set carries them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.rewards.labels import gold_answers

SHAPES: list[tuple[Any, list[str]]] = [
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
    # Ordinary strings that only look like JSON.
    ("[citation needed", ["[citation needed"]),
    ("{x} is a set", ["{x} is a set"]),
    ("1887", ["1887"]),
    ('"quoted"', ['"quoted"']),
    ("null", ["null"]),
]


@pytest.mark.parametrize(("label", "expected"), SHAPES, ids=[repr(label)[:50] for label, _ in SHAPES])
def test_shapes(label: Any, expected: list[str]) -> None:
    assert gold_answers(label) == expected


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
