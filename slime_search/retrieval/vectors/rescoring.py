"""Inner products of few candidates, computed from the vectors themselves."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.vectors.stored import RowReader
from slime_search.retrieval.vectors.vector_index import Neighbours

_ROWS_AT_ONCE = 4_096


class Rescored(NamedTuple):
    neighbours: Neighbours
    longest: float
    """The length of the longest vector among the candidates."""


def rescore(vectors: RowReader, queries: Vectors, rows: npt.NDArray[np.int64], topk: int) -> Rescored:
    """The best ``topk`` of every query's candidates ``rows``, shape (queries, candidates), -1 for none.

    Sums are taken in float64, so that equal vectors have equal scores wherever they stand, and rounded to float32.
    For the vectors (1, 0), (0, 1) and (1, 0), a query (1, 0), its candidates 2, 1, 0 and -1, and ``topk`` 3, the rows
    are 0, 2, 1 with the scores 1, 1, 0: equal scores by row, and what is no candidate last.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    longest = 0.0
    vectors.announce(rows)
    # One query at a time, so that what is read of the vectors stays in the cache.
    for query, named, scored in zip(queries, rows, scores, strict=True):
        there = np.flatnonzero(named >= 0)
        for start in range(0, len(there), _ROWS_AT_ONCE):
            columns = there[start : start + _ROWS_AT_ONCE]
            # Torch turns float16 into float64 many times faster than numpy.
            read = torch.from_numpy(vectors.read(named[columns])).to(torch.float64)
            scored[columns] = (read @ torch.from_numpy(query.astype(np.float64))).numpy()
            longest = max(longest, float(torch.linalg.vector_norm(read, dim=1).max()))
    order = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), -scores), axis=1)[:, :topk]
    best = Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))
    return Rescored(padded(best, topk), longest)


def padded(found: Neighbours, topk: int) -> Neighbours:
    """With as many columns as were asked for."""
    missing = ((0, 0), (0, topk - found.rows.shape[1]))
    return Neighbours(
        np.pad(found.scores, missing, constant_values=-np.inf), np.pad(found.rows, missing, constant_values=-1)
    )
