"""BM25 in Lucene's variant, written for reading, and what a correct answer has to satisfy."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from slime_search.retrieval.words import Language, split_words, splitter_of

K1, B = 1.5, 0.75

WORDS = ["red", "blue", "fox", "hen", "the", "of", "café", "中文", "x_1", "7"]
"""The words of the test corpus."""

as_served = splitter_of(Language.ENGLISH)
"""How a server takes texts apart that was told nothing else."""


def bm25_scores(texts: Sequence[str], query: str, split: Callable[[str], list[str]] = split_words) -> dict[int, float]:
    """The score of every text that shares a word with the query; a word that the query repeats counts each time."""
    counts = [Counter(split(text)) for text in texts]
    average_length = sum(count.total() for count in counts) / len(texts)
    scores: dict[int, float] = {}
    for word in split(query):
        holders = [row for row, count in enumerate(counts) if word in count]
        idf = math.log(1 + (len(texts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for row in holders:
            frequency = counts[row][word]
            norm = K1 * (1 - B + B * counts[row].total() / average_length)
            scores[row] = scores.get(row, 0.0) + idf * frequency / (frequency + norm)
    return scores


def check_hits(hits: Sequence[tuple[int, float]], expected: dict[int, float], topk: int) -> None:
    """``hits`` are the ``topk`` best of ``expected``, best first, equal scores by row, up to float32 rounding."""
    rows = [row for row, _ in hits]
    assert len(rows) == len(set(rows)) == min(topk, len(expected))
    assert [(-score, row) for row, score in hits] == sorted((-score, row) for row, score in hits)
    assert dict(hits) == pytest.approx({row: expected[row] for row in rows}, rel=1e-4)
    missed = [score for row, score in expected.items() if row not in rows]
    if hits and missed:
        assert max(missed) <= hits[-1][1] * (1 + 1e-4)
