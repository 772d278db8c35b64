"""The hits of a retriever in a cross-encoder's order."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.passages import passage_text
from slime_search.retrieval.retriever import Hit, Retriever


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
