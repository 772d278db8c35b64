"""Percentile intervals by the bootstrap, in which questions are drawn again.

The percentile method is that of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Samples of
one question are alike, so whole questions are drawn and never single samples (the cluster bootstrap; Field and Welsh,
JRSS B 69, 2007). For two systems on the same questions, differences are drawn (Koehn, EMNLP 2004).
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95
_DRAWN_AT_ONCE = 2**20

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def drawn_means(values: Array, *, seed: int, name: str) -> Array:
    """The means of ``DRAWS`` draws of as many questions, with replacement.

    Args:
        values: (questions, metrics), one row the mean over a question's samples.
        seed: with ``name``, of the draws; equal ones draw the same.

    Returns:
        (DRAWS, metrics).
    """
    questions = len(values)
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    sums = []
    at_once = max(_DRAWN_AT_ONCE // questions, 1)
    for start in range(0, DRAWS, at_once):
        rows = min(at_once, DRAWS - start)
        drawn = random.integers(questions, size=(rows, questions)) + questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions).reshape(rows, questions)
        sums.append(counts @ values)
    return np.concatenate(sums) / questions


def intervals(values: Array, draws: Array) -> list[Interval]:
    """One interval a metric.

    Args:
        values: (questions, metrics).
        draws: their ``drawn_means``.
    """
    return _around(values.mean(axis=0), draws)


def average_intervals(values: list[Array], draws: list[Array]) -> list[Interval]:
    """Of the mean over data sets, in which each counts the same. Each set's questions were drawn by themselves."""
    means = np.mean([of_set.mean(axis=0) for of_set in values], axis=0)
    return _around(means, np.mean(draws, axis=0))


def _around(means: Array, draws: Array) -> list[Interval]:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return [Interval(*map(float, numbers)) for numbers in zip(means, low, high, strict=True)]
