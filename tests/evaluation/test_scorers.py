"""Exact match and F1 against scorers of other makes, on fuzzed text."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from slime_search.rewards.text import cover_exact_match, exact_match, f1, normalize_answer

words = st.sampled_from(
    [
        "the",
        "The",
        "A",
        "an",
        "athe",
        "cat",
        "U.S.",
        "x-y",
        "-",
        "'s",
        "’",
        "«a»",
        "…",
        "١٢",
        "東京",
        "İ",
        "ß",
        "ﬁ",
        "3.14",
    ]
)
joints = st.sampled_from([" ", "", "\n", "\t", "\u00a0", "\u2003", "\u200b", ", ", "_", "-"])
phrases = st.lists(st.tuples(words, joints), max_size=8).map(lambda parts: "".join(map("".join, parts)))
texts = st.one_of(phrases, st.text(max_size=30))
golds = st.lists(texts, min_size=1, max_size=4)
pairs = st.tuples(texts, golds) | golds.flatmap(lambda gold: st.tuples(st.sampled_from(gold), st.just(gold)))


@given(pair=pairs)
def test_exact_match_and_f1_are_those_of_squad(pair: tuple[str, list[str]]) -> None:
    answer, gold = pair
    target = {"answers": {"answer_start": [0] * len(gold), "text": gold}, "id": "1"}
    theirs = squad([{"prediction_text": answer, "id": "1"}], [target])
    assert 100 * exact_match(answer, gold) == float(theirs["exact_match"])
    assert 100 * f1(answer, gold) == pytest.approx(float(theirs["f1"]), abs=1e-3)


@pytest.fixture(scope="module")
def search_r1() -> Any:
    """Search-R1's own scorer, of the checkout that SEARCH_R1_HOME names."""
    home = os.environ.get("SEARCH_R1_HOME")
    if not home:
        pytest.skip("SEARCH_R1_HOME names no checkout of Search-R1")
    spec = importlib.util.spec_from_file_location("qa_em", Path(home) / "verl/utils/reward_score/qa_em.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(pair=pairs)
def test_exact_match_is_that_of_search_r1(search_r1: Any, pair: tuple[str, list[str]]) -> None:
    answer, gold = pair
    assert normalize_answer(answer) == search_r1.normalize_answer(answer)
    assert exact_match(answer, gold) == search_r1.em_check(answer, gold)


@given(pair=pairs)
def test_what_covers_whole_words_covers_for_search_r1_too(search_r1: Any, pair: tuple[str, list[str]]) -> None:
    """Theirs also finds a gold answer inside a word, and an empty one everywhere."""
    answer, gold = pair
    assert cover_exact_match(answer, gold) <= search_r1.subem_check(answer, gold)
