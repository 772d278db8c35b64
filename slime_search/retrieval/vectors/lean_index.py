"""Approximate search of a store: one bit a number names candidates, which are scored from the vectors themselves."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.vectors.rescoring import rescore
from slime_search.retrieval.vectors.stored import RowReader
from slime_search.retrieval.vectors.vector_index import Neighbours, check_queries

MIN_CANDIDATES = 200
_CANDIDATES_PER_HIT = 10
_QUERIES_AT_ONCE = 256


class LeanShard(NamedTuple):
    first: int
    """Its first row among those of the index."""
    index: Any
    """FAISS's."""


class LeanIndex:
    """Finds most of what exact search finds; the scores of what it finds are exact."""

    effort = None

    def __init__(self, vectors: RowReader, shards: Sequence[LeanShard], *, first_row: int = 0) -> None:
        """``vectors`` and the shards together hold the same rows; ``first_row`` is added to those of hits."""
        self._vectors = vectors
        self._shards = shards
        self._first_row = first_row

    @property
    def count(self) -> int:
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        return self._vectors.dimension

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """As ``VectorIndex`` says. Raises ValueError for queries that do not fit."""
        queries = check_queries(queries, self.dimension)
        found = [
            self._search(queries[start : start + _QUERIES_AT_ONCE], topk)
            for start in range(0, max(1, len(queries)), _QUERIES_AT_ONCE)
        ]
        rows = np.concatenate([part.rows for part in found])
        scores = np.concatenate([part.scores for part in found])
        return Neighbours(scores, np.where(rows < 0, -1, rows + self._first_row))

    def _search(self, queries: Vectors, topk: int) -> Neighbours:
        candidates = min(max(MIN_CANDIDATES, _CANDIDATES_PER_HIT * topk), self.count)
        named = []
        for shard in self._shards:
            _, rows = shard.index.search(queries, min(candidates, shard.index.ntotal))
            named.append(np.where(rows < 0, -1, rows + shard.first))
        return rescore(self._vectors, queries, np.concatenate(named, axis=1), topk).neighbours
