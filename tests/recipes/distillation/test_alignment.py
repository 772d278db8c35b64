"""Log-probabilities change hands by the bytes that tokens share, and none is lost on the way."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.recipes.distillation.alignment import Run, transfer
from tests.recipes.distillation.reference import transfer_by_definition


@st.composite
def cut(draw: st.DrawFn, size: int) -> list[int]:
    """Sizes of tokens that make up ``size`` bytes; tokens without bytes are among them."""
    inner = draw(st.sets(st.integers(1, size - 1), max_size=size)) if size > 1 else set()
    edges = [0, *sorted(inner), size]
    sizes = [b - a for a, b in pairwise(edges)]
    for place in sorted(draw(st.lists(st.integers(0, len(sizes)), max_size=2)), reverse=True):
        sizes.insert(place, 0)
    return sizes


def log_probs_of(sizes: list[int]) -> st.SearchStrategy[list[float]]:
    values = st.floats(-50, 0, allow_nan=False)
    return st.lists(values, min_size=len(sizes), max_size=len(sizes))


@st.composite
def whole_texts(draw: st.DrawFn) -> tuple[list[int], list[int], list[float]]:
    size = draw(st.integers(1, 24))
    teacher = draw(cut(size))
    return draw(cut(size)), teacher, draw(log_probs_of(teacher))


@st.composite
def texts_with_runs(draw: st.DrawFn) -> tuple[list[int], list[int], list[Run], list[float]]:
    """Runs with bytes between them that one of the texts, both or neither have to themselves."""
    runs, student, teacher = [], draw(st.integers(0, 3)), draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 4))):
        runs.append(Run(student, teacher, draw(st.integers(1, 7))))
        student += runs[-1].length + draw(st.integers(0, 3))
        teacher += runs[-1].length + draw(st.integers(0, 3))
    sizes = draw(cut(student + 1)), draw(cut(teacher + 1))
    return *sizes, runs, draw(log_probs_of(sizes[1]))


def close(value: list[float | None]) -> list[Any]:
    return [None if one is None else pytest.approx(one, abs=1e-9) for one in value]


@given(texts_with_runs())
def test_it_is_the_definition(case: tuple[list[int], list[int], list[Run], list[float]]) -> None:
    assert transfer(*case) == close(transfer_by_definition(*case))


@given(whole_texts())
def test_of_a_whole_text_nothing_is_lost(case: tuple[list[int], list[int], list[float]]) -> None:
    student, teacher, log_probs = case
    given_ = transfer(student, teacher, [Run(0, 0, sum(student))], log_probs)
    assert [value is None for value in given_] == [size == 0 for size in student]
    spoken = [log_prob for log_prob, size in zip(log_probs, teacher, strict=True) if size]
    assert math.fsum(value for value in given_ if value is not None) == pytest.approx(math.fsum(spoken), abs=1e-9)
    assert all(value is None or math.isfinite(value) for value in given_)


@given(whole_texts())
def test_equal_tokens_keep_their_log_probabilities(case: tuple[list[int], list[int], list[float]]) -> None:
    _, sizes, log_probs = case
    expected = [log_prob if size else None for log_prob, size in zip(log_probs, sizes, strict=True)]
    assert transfer(sizes, sizes, [Run(0, 0, sum(sizes))], log_probs) == expected


@given(texts_with_runs(), st.integers(0, 6))
def test_a_run_may_be_told_in_parts(case: tuple[list[int], list[int], list[Run], list[float]], at: int) -> None:
    student, teacher, runs, log_probs = case
    parts = []
    for run in runs:
        cut_at = min(at, run.length)
        parts += [Run(run.student, run.teacher, cut_at)] if cut_at else []
        parts += [Run(run.student + cut_at, run.teacher + cut_at, run.length - cut_at)] if cut_at < run.length else []
    assert transfer(student, teacher, parts, log_probs) == transfer(student, teacher, runs, log_probs)


@pytest.mark.parametrize(
    ("student", "teacher", "log_probs", "expected"),
    [
        ([3, 3], [6], [-2.0], [-1.0, -1.0]),
        ([6], [2, 4], [-1.0, -2.0], [-3.0]),
        ([2, 1], [1, 2], [-1.0, -4.0], [-3.0, -2.0]),
        ([1, 2, 3], [2, 4], [-2.0, -4.0], [-1.0, -3.0, -2.0]),
        # The picture in docs/distillation.md.
        ([3, 1, 1, 1], [2, 3, 1], [-1.0, -3.0, -0.5], [-2.0, -1.0, -1.0, -0.5]),
        # A character of four bytes, in halves for the student and in quarters for the teacher.
        ([2, 2], [1, 1, 1, 1], [-1.0, -2.0, -3.0, -4.0], [-3.0, -7.0]),
        ([0, 2, 0], [2], [-1.5], [None, -1.5, None]),
        ([], [], [], []),
    ],
)
def test_by_hand(student: list[int], teacher: list[int], log_probs: list[float], expected: list[float | None]) -> None:
    runs = [Run(0, 0, sum(student))] if student else []
    assert transfer(student, teacher, runs, log_probs) == expected


def test_a_token_that_reaches_out_of_the_run_takes_its_block_along() -> None:
    """The student's second token ends after the run does, so nothing is known of the teacher's second."""
    assert transfer([2, 3], [2, 2, 5], [Run(0, 0, 4)], [-1.0, -2.0, -3.0]) == [-1.0, None]
