"""Dense retrieval: the passages whose vectors have the highest inner product with the query's."""

from collections.abc import Sequence

from slime_search.retrieval.encoders.encoder import QueryEncoder
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.vectors.vector_index import VectorIndex


class DenseRetriever:
    """Encodes queries and looks their neighbours up. Several threads may search at once, so that one encodes while
    another looks up."""

    def __init__(self, encoder: QueryEncoder, index: VectorIndex) -> None:
        self._encoder = encoder
        self._index = index

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query; equal scores are ordered by position in the corpus."""
        scores, rows = self._index.search(self._encoder.encode_queries(queries), topk)
        return [
            [Hit(row, score) for row, score in zip(of_query, its_scores, strict=True) if row >= 0]
            for of_query, its_scores in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
