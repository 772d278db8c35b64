"""Several retrievers as one, by reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009)."""

import math
from collections import defaultdict
from collections.abc import Sequence

from slime_search.retrieval.retriever import Hit, Retriever


class HybridRetriever:
    """Ranks passages by the sum of ``1 / (k + rank)`` over retrievers of the same corpus, ranks counted from 1.

    Only ranks count, so that retrievers with scores of any scale mix; a passage that one of them does not find gets
    nothing from it.

    Args:
        retrievers: at least one; their order does not matter.
        k: how little the first ranks stand out; 60 is the paper's.
        depth: how many hits of each retriever are fused, or ``topk`` where that is more.
    """

    def __init__(self, retrievers: Sequence[Retriever], *, k: int = 60, depth: int = 100) -> None:
        if not retrievers:
            raise ValueError("retrievers is empty; fuse at least one")
        self._retrievers = tuple(retrievers)
        self._k = k
        self._depth = depth

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query, best first; equal scores are ordered by position in the corpus."""
        answers = [retriever.search(queries, max(topk, self._depth)) for retriever in self._retrievers]
        return [self._fuse(rankings)[:topk] for rankings in zip(*answers, strict=True)]

    def _fuse(self, rankings: tuple[list[Hit], ...]) -> list[Hit]:
        shares: defaultdict[int, list[float]] = defaultdict(list)
        for ranking in rankings:
            for rank, hit in enumerate(ranking, start=1):
                shares[hit.row_index].append(1 / (self._k + rank))
        # A plain sum would depend on the order of the retrievers in its last bit, and so would the order of ties.
        fused = (Hit(row, math.fsum(parts)) for row, parts in shares.items())
        return sorted(fused, key=lambda hit: (-hit.score, hit.row_index))
