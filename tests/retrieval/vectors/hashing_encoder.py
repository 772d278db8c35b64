"""A small encoder: the words of a text, each a fixed random vector."""

import re
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from slime_search.retrieval.encoders.encoder import Vectors

DIMENSION = 64


class HashingEncoder:
    dimension = DIMENSION

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.encode_passages(texts)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        vectors = np.stack([sum(map(_of_word, re.findall(r"\w+", text)), np.zeros(DIMENSION)) for text in texts])
        return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@cache
def _of_word(word: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(zlib.crc32(word.lower().encode())).standard_normal(DIMENSION)
