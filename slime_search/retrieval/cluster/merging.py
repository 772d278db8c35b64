"""One ranking of the rankings that parts of an index give."""

from collections.abc import Sequence

import numpy as np

from slime_search.retrieval.vectors.vector_index import Neighbours


def merge(parts: Sequence[Neighbours], topk: int) -> Neighbours:
    """The ``topk`` best of all parts, best first; ties by position in the corpus, as the whole index has them.

    Args:
        parts: at least one, each with its own ``topk`` best and positions in the whole corpus.
        topk: passages a query; rows are -1 where there are fewer.
    """
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    absent = rows < 0
    last = np.iinfo(rows.dtype).max
    order = np.lexsort((np.where(absent, last, rows), np.where(absent, np.inf, -scores)))[:, :topk]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))
