"""Encoders of sentence-transformers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from slime_search.retrieval.encoders.encoder import Vectors


class SentenceEncoder:
    """Encodes in batches of texts of similar length, so that little is computed for padding.

    Args:
        model: moves and computes where and as it was loaded.
        query_prefix: what comes before every query.
        passage_prefix: what comes before every passage.
        batch_size: texts a forward pass, at most.
    """

    def __init__(
        self, model: SentenceTransformer, *, query_prefix: str = "", passage_prefix: str = "", batch_size: int
    ) -> None:
        self._model = model
        self._query_prefix = query_prefix
        self._passage_prefix = passage_prefix
        self._batch_size = batch_size
        dimension = model.get_embedding_dimension()
        # A module of the user's own need not say what it makes.
        self._dimension = self._encode(["x"], "").shape[1] if dimension is None else dimension

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._dimension

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query, in order; what is beyond the model's length limit is left out."""
        return self._encode(texts, self._query_prefix)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """One vector a passage, in order; what is beyond the model's length limit is left out."""
        return self._encode(texts, self._passage_prefix)

    def _encode(self, texts: Sequence[str], prefix: str) -> Vectors:
        if not texts:
            return np.empty((0, self._dimension), np.float32)
        vectors = self._model.encode(
            list(texts), prompt=prefix, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


class ToFloat32(torch.nn.Module):
    """Goes on in fp32 behind the transformer: means, lengths and products of bf16 numbers would lose the order."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        features["token_embeddings"] = features["token_embeddings"].float()
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """There is nothing to save."""
