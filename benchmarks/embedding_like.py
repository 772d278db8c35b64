"""Vectors with the statistics of a sentence encoder's.

Fitted to what all-MiniLM-L6-v2 makes of 40,000 passages of 80 words (docstrings of Python packages) and of their first
sentences as queries: see the table in lean_indexes.md.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

DIMENSION = 768
MEAN_LENGTH = 0.346
DECAY = 0.9
QUERY_COSINE = 0.72
TOPIC, DOCUMENT = 0.10, 0.52
"""Shares of the variance that passages of a topic, and of a document, have in common."""
PASSAGES_A_TOPIC, PASSAGES_A_DOCUMENT = 1_000, 8

CHUNK = 50_000

Floats = npt.NDArray[np.float32]


class EmbeddingLike:
    """``count`` unit vectors, the same ones each time."""

    def __init__(self, count: int, dimension: int = DIMENSION) -> None:
        self.count = count
        self.dimension = dimension
        rng = np.random.default_rng(0)
        spectrum = np.arange(5, dimension + 5) ** -DECAY
        self._spread = np.sqrt(spectrum / spectrum.sum() * (1 - MEAN_LENGTH**2)).astype(np.float32)
        self._mean = _unit(rng.standard_normal((1, dimension), np.float32)) * np.float32(MEAN_LENGTH)
        self._rotation = np.linalg.qr(rng.standard_normal((dimension, dimension), np.float32))[0]
        self._topics = rng.standard_normal((count // PASSAGES_A_TOPIC + 1, dimension), np.float32)

    def chunks(self) -> Iterator[Floats]:
        for start in range(0, self.count, CHUNK):
            yield self.chunk(start)

    def queries(self, passages: Floats) -> Floats:
        """Each as near to one of the passages as a question is to the passage that answers it."""
        noise = np.random.default_rng(1).standard_normal(passages.shape, np.float32)
        other = _unit(self._mean + (self._spread * noise) @ self._rotation)
        other = _unit(other - passages * (other * passages).sum(axis=1, keepdims=True))
        return np.asarray(QUERY_COSINE * passages + np.sqrt(1 - QUERY_COSINE**2, dtype=np.float32) * other)

    def chunk(self, start: int) -> Floats:
        """CHUNK vectors, or as many as are left, from ``start`` on, a multiple of CHUNK."""
        rng = np.random.default_rng((2, start))
        rows = min(CHUNK, self.count - start)
        documents = rng.standard_normal((-(-rows // PASSAGES_A_DOCUMENT), self.dimension), np.float32)
        topic_of_document = rng.integers(0, len(self._topics), len(documents))
        document = np.arange(rows) // PASSAGES_A_DOCUMENT
        mixed = np.float32(np.sqrt(TOPIC)) * self._topics[topic_of_document[document]]
        mixed += np.float32(np.sqrt(DOCUMENT)) * documents[document]
        mixed += np.float32(np.sqrt(1 - TOPIC - DOCUMENT)) * rng.standard_normal(mixed.shape, np.float32)
        return _unit(self._mean + (self._spread * mixed) @ self._rotation)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
