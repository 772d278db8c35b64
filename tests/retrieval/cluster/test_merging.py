"""Merged rankings of parts, against the ranking of the whole."""

from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.cluster.remote import merge
from slime_search.retrieval.vectors.vector_index import Neighbours

# Few values, so that ties are common.
scores_of_all = st.lists(st.lists(st.integers(-2, 2).map(float), min_size=3, max_size=3), min_size=1, max_size=12)


def best(scores: list[list[float]], first_row: int, topk: int) -> Neighbours:
    """The ``topk`` best of consecutive passages, of which each has a score for every query."""
    found = Neighbours(np.full((3, topk), -np.inf, np.float32), np.full((3, topk), -1, np.int64))
    for query in range(3):
        ranked = sorted((-of_queries[query], first_row + place) for place, of_queries in enumerate(scores))[:topk]
        for rank, (negative, row) in enumerate(ranked):
            found.scores[query, rank], found.rows[query, rank] = -negative, row
    return found


@given(scores=scores_of_all, topk=st.integers(1, 15), cuts=st.sets(st.integers(0, 12)), order=st.randoms())
def test_parts_give_what_the_whole_gives(scores: list[list[float]], topk: int, cuts: set[int], order: Random) -> None:
    ends = [0, *sorted(cut for cut in cuts if cut < len(scores)), len(scores)]
    parts = [best(scores[start:end], start, topk) for start, end in pairwise(ends)]
    order.shuffle(parts)
    merged, whole = merge(parts, topk), best(scores, 0, topk)
    np.testing.assert_array_equal(merged.rows, whole.rows)
    np.testing.assert_array_equal(merged.scores, whole.scores)
    assert (merged.scores.dtype, merged.rows.dtype) == (np.float32, np.int64)
