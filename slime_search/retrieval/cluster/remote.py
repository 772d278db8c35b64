"""Encoder, index, BM25 and cross-encoder that are elsewhere, as the rest of the server knows them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.cluster.calls import Replicas
from slime_search.retrieval.cluster.merging import merge
from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.vectors.vector_index import Neighbours


class RemoteEncoder:
    """An Encoder of queries alone."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self.dimension: int = replicas.call("dimension")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query, in order. Raises ReplicasUnavailable."""
        vectors: Vectors = self._replicas.call("encode_queries", texts)
        return vectors


class RemoteIndex:
    """A VectorIndex in parts, which are searched at the same time."""

    def __init__(self, parts: Sequence[Replicas]) -> None:
        self._parts = parts
        shapes = [part.call("shape") for part in parts]
        self.count = sum(count for count, _ in shapes)
        self.dimension: int = shapes[0][1]

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """The ``topk`` passages with the highest inner product with each query. Raises ReplicasUnavailable."""
        answers = [part.begin("search", queries, topk) for part in self._parts]
        return merge([answer() for answer in answers], topk)


class RemoteWords:
    """A Retriever by BM25."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query. Raises ReplicasUnavailable."""
        hits: list[list[Hit]] = self._replicas.call("search", queries, topk)
        return hits


class RemoteCrossEncoder:
    """A CrossEncoder."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """One score a (query, passage) pair, in order. Raises ReplicasUnavailable."""
        scores: npt.NDArray[np.float32] = self._replicas.call("score", pairs)
        return scores
