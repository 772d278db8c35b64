"""Answer matching: SQuAD's normalisation, exact match, cover exact match and F1."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.rewards.text import cover_exact_match, exact_match, f1, normalize_answer


def normalised_step_by_step(text: str) -> str:
    """SQuAD's four steps, each on its own and without the package's helpers."""
    lowered = text.lower()
    unpunctuated = "".join(c for c in lowered if c not in set(string.punctuation))
    # A word boundary, spelled out: an article counts unless a word character touches it.
    words = re.split(r"(\W+)", unpunctuated)
    without_articles = [" " if word in ("a", "an", "the") else word for word in words]
    return " ".join("".join(without_articles).split())


words = st.sampled_from(
    ["the", "The", "a", "An", "thé", "athe", "cat", "U.S.", "x-y", "-", "'s", "\n", "\t", " ", "_", "é", "an,"]
)
texts = st.one_of(
    st.text(max_size=30), st.lists(words, max_size=10).map(" ".join), st.lists(words, max_size=6).map("".join)
)


@given(text=texts)
def test_normalisation_agrees_with_the_steps_of_squad(text: str) -> None:
    assert normalize_answer(text) == normalised_step_by_step(text)


@given(text=texts)
def test_normalisation_leaves_nothing_to_normalise_but_joined_articles(text: str) -> None:
    once = normalize_answer(text)
    assert not set(once) & set(string.punctuation)
    assert once == once.strip() and "  " not in once
    assert not {"a", "an", "the"} & set(once.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat!", "cat"),
        ("a an the", ""),
        ("An apple a day", "apple day"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("theatre of the absurd", "theatre of absurd"),
        ("«Ünïcode»", "«ünïcode»"),
        ("tab\tnewline\n", "tab newline"),
        ("don't", "dont"),
        ("a者 the", "a者"),
        ("", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


# The examples of SQuAD's paper and evaluation script: (answer, gold, exact match, F1).
SQUAD = [
    ("Denver Broncos", ["Denver Broncos", "The Denver Broncos"], 1.0, 1.0),
    ("the denver broncos!", ["Denver Broncos"], 1.0, 1.0),
    ("Broncos", ["Denver Broncos"], 0.0, 2 / 3),
    ("Carolina Panthers", ["Denver Broncos"], 0.0, 0.0),
    ("the Denver Broncos won", ["Denver Broncos"], 0.0, 0.8),
    ("in the city of Paris", ["Paris"], 0.0, 0.4),
    ("gold gold gold", ["gold"], 0.0, 0.5),
    ("gold", ["gold gold"], 0.0, 2 / 3),
    ("graupel", ["graupel", "snow"], 1.0, 1.0),
    ("snow and rain", ["graupel", "snow"], 0.0, 0.5),
    ("", ["Paris"], 0.0, 0.0),
    ("the", ["Paris"], 0.0, 0.0),
    ("anything", [], 0.0, 0.0),
    ("7", ["7"], 1.0, 1.0),
    ("3.14", ["314"], 1.0, 1.0),
]


@pytest.mark.parametrize(("answer", "gold", "em", "overlap"), SQUAD)
def test_exact_match_and_f1(answer: str, gold: list[str], em: float, overlap: float) -> None:
    assert exact_match(answer, gold) == em
    assert f1(answer, gold) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("text", "gold", "covered"),
    [
        ("It was Paris, of course", ["Paris"], 1.0),
        ("Parisian life", ["Paris"], 0.0),
        ("comparison", ["Paris"], 0.0),
        ("new york city", ["York City"], 1.0),
        ("new york, the city", ["York City"], 1.0),
        ("city york", ["York City"], 0.0),
        ("anything", ["the"], 0.0),
        ("anything", [""], 0.0),
        ("anything", [], 0.0),
        ("", ["Paris"], 0.0),
        ("Paris", ["London", "PARIS."], 1.0),
    ],
)
def test_cover_exact_match(text: str, gold: list[str], covered: float) -> None:
    assert cover_exact_match(text, gold) == covered


@given(answer=texts, gold=st.lists(texts, max_size=3))
def test_the_metrics_agree_with_each_other(answer: str, gold: list[str]) -> None:
    em, overlap, covered = exact_match(answer, gold), f1(answer, gold), cover_exact_match(answer, gold)
    assert 0.0 <= overlap <= 1.0
    assert overlap >= em
    if em and normalize_answer(answer):
        assert covered == 1.0
    assert f1(answer, gold) == f1(answer, list(reversed(gold)))
    for one in gold:
        assert f1(answer, [one]) == pytest.approx(f1(one, [answer]))


@given(words=st.lists(st.sampled_from(["x", "y", "z"]), min_size=1), order=st.randoms(use_true_random=False))
def test_f1_does_not_depend_on_the_order_of_words(words: list[str], order: object) -> None:
    shuffled = sorted(words)
    assert f1(" ".join(words), [" ".join(shuffled)]) == 1.0
