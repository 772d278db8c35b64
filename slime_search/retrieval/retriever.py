"""What every index offers to the server."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.corpus_file import passage_text
from slime_search.retrieval.encoders.encoder import QueryEncoder
from slime_search.retrieval.vectors.vector_index import VectorIndex

if TYPE_CHECKING:
    from slime_search.retrieval.vectors.effort import Effort


class Hit(NamedTuple):
    """One found passage: its position in the corpus, counted from 0, and its score, the higher the better."""

    row_index: int
    score: float


class Query(NamedTuple):
    """What is searched for. Equal queries have equal hits."""

    text: str
    topk: int


class Retriever(Protocol):
    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """Finds at most ``topk`` passages for every query, best first; fewer, or none, where no more match.

        Several worker threads may call it at once. What a query gets does not depend on the queries beside it.
        """
        ...


class DenseRetriever:
    """Encodes queries and looks their neighbours up. Several threads may search at once, so that one encodes while
    another looks up."""

    def __init__(self, encoder: QueryEncoder, index: VectorIndex) -> None:
        self._encoder = encoder
        self._index = index

    @property
    def effort(self) -> "Effort | None":
        """How hard the index searches, where it is approximate."""
        return self._index.effort

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query; equal scores are ordered by position in the corpus."""
        scores, rows = self._index.search(self._encoder.encode_queries(queries), topk)
        return [
            [Hit(row, score) for row, score in zip(of_query, its_scores, strict=True) if row >= 0]
            for of_query, its_scores in zip(rows.tolist(), scores.tolist(), strict=True)
        ]


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


class CrossEncoder(Protocol):
    """Several threads may call it at once."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """How well each passage answers its query, the higher the better; ``pairs`` are (query, passage)."""
        ...


class RerankedRetriever:
    """Scores the best hits of a retriever anew, each passage read together with its query.

    Args:
        retriever: finds the candidates.
        corpus: holds their texts.
        cross_encoder: scores them; its scores become those of the hits.
        depth: candidates a query, or ``topk`` where that is more.
    """

    def __init__(self, retriever: Retriever, corpus: Corpus, cross_encoder: CrossEncoder, *, depth: int = 50) -> None:
        self._retriever = retriever
        self._corpus = corpus
        self._cross_encoder = cross_encoder
        self._depth = depth

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query, best first; equal scores are ordered by position in the corpus."""
        found = self._retriever.search(queries, max(topk, self._depth))
        texts = {row: self._text(row) for row in {hit.row_index for hits in found for hit in hits}}
        pairs = [(query, texts[hit.row_index]) for query, hits in zip(queries, found, strict=True) for hit in hits]
        scores = iter(self._cross_encoder.score(pairs).tolist())
        rescored = ([Hit(hit.row_index, next(scores)) for hit in hits] for hits in found)
        return [sorted(hits, key=lambda hit: (-hit.score, hit.row_index))[:topk] for hits in rescored]

    def _text(self, row_index: int) -> str:
        return passage_text(orjson.loads(self._corpus.row(row_index)))
