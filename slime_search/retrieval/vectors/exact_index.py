"""Exact search: a quick scan names candidates, which are scored from the vectors themselves."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.vectors.codes import Codes
from slime_search.retrieval.vectors.rescoring import rescore
from slime_search.retrieval.vectors.scan import scan
from slime_search.retrieval.vectors.stored import RowReader
from slime_search.retrieval.vectors.vector_index import Neighbours, check_queries

_QUERIES_AT_ONCE = 128
_CANDIDATES_AT_ONCE = 1 << 20
_MIN_CANDIDATES = 32
_CANDIDATES_PER_HIT = 4
_GROWTH = 8


class Shard(NamedTuple):
    first: int
    """Its first row among those of the index."""
    codes: Codes


class _Scanned(NamedTuple):
    """Candidates, best first, by their approximate scores."""

    scores: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


class ExactIndex:
    """Finds what a scan of the vectors in float32 would find, in the same order.

    1. The scan names candidates by products that are rounded, each by no more than a known margin.
    2. The candidates' scores are computed from the vectors themselves, and the best ``topk`` of them are the hits.
    3. A vector that the scan did not name has a rounded product of at most the last candidate's, so that its score is
       at most that plus the margin. Where the last hit's score is higher, no other vector can belong among the hits.
    4. Where it is not, the scan is repeated for that query with eight times as many candidates.

    An example with ``topk`` 1, a margin of 0.02 and two candidates of rounded products 0.91 and 0.90. Their true
    scores turn out to be 0.90 and 0.915: the second is the hit. What was not named scores 0.90 + 0.02 = 0.92 at most,
    which is more than 0.915, so that there may be a better one; with 16 candidates, of which the last has a rounded
    product of 0.80, 0.82 is the most that is left, and the hit is certain.
    """

    effort = None

    def __init__(self, vectors: RowReader, shards: Sequence[Shard], *, first_row: int = 0) -> None:
        """``vectors`` and the shards together hold the same rows; ``first_row`` is added to those of hits."""
        self._vectors = vectors
        self._shards = shards
        self._first_row = first_row
        # One thread a GPU, so that none waits for another; a single shard is scanned by the caller's thread.
        self._threads = ThreadPoolExecutor(len(shards), "scan") if len(shards) > 1 else None

    @property
    def count(self) -> int:
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        return self._vectors.dimension

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """As ``VectorIndex`` says. Raises ValueError for queries that do not fit."""
        queries = check_queries(queries, self.dimension)
        scores = np.full((len(queries), topk), -np.inf, np.float32)
        rows = np.full((len(queries), topk), -1, np.int64)
        pending, candidates = np.arange(len(queries)), max(_MIN_CANDIDATES, _CANDIDATES_PER_HIT * topk)
        while len(pending):
            candidates = min(candidates, self.count)
            at_once = max(1, min(_QUERIES_AT_ONCE, _CANDIDATES_AT_ONCE // candidates))
            uncertain = []
            for start in range(0, len(pending), at_once):
                these = pending[start : start + at_once]
                (scores[these], rows[these]), certain = self._search(queries[these], topk, candidates)
                uncertain.append(these[~certain])
            pending, candidates = np.concatenate(uncertain), candidates * _GROWTH
        return Neighbours(scores, np.where(rows < 0, -1, rows + self._first_row))

    def _search(self, queries: Vectors, topk: int, candidates: int) -> tuple[Neighbours, npt.NDArray[np.bool_]]:
        """The hits among so many candidates, and for which queries they are certain to be the right ones."""
        run = map if self._threads is None else self._threads.map
        scanned = list(run(partial(self._scan, queries, candidates), self._shards))
        approximate = np.concatenate([part.scores for part in scanned], axis=1)
        rows = np.concatenate([part.rows for part in scanned], axis=1)
        if len(scanned) > 1:
            order = np.argsort(-approximate, axis=1, kind="stable")[:, :candidates]
            approximate, rows = np.take_along_axis(approximate, order, 1), np.take_along_axis(rows, order, 1)
        best, longest = rescore(self._vectors, queries, rows, topk)
        if candidates == self.count:
            return best, np.ones(len(queries), np.bool_)
        margins = np.max([shard.codes.margins(queries, longest) for shard in self._shards], axis=0)
        return best, best.scores[:, -1] > approximate[:, -1] + margins

    def _scan(self, queries: Vectors, candidates: int, shard: Shard) -> _Scanned:
        prepared = shard.codes.prepare(queries)
        products, rows = scan(shard.codes, prepared.columns, min(candidates, len(shard.codes)))
        approximate = products.cpu().numpy() * prepared.factors[:, None] + prepared.offsets[:, None]
        return _Scanned(approximate, rows.cpu().numpy() + shard.first)
