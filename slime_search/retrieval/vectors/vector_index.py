"""What every index over vectors offers."""

from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.encoders.encoder import Vectors


class Neighbours(NamedTuple):
    """The best passages of every query, best first; both arrays have the shape (queries, topk)."""

    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    """Positions in the corpus, counted from 0; -1 where there is no further passage."""


class Quantization(StrEnum):
    """How uncompressed vectors are held while they are scanned; what is found is scored from the vectors themselves."""

    AUTO = "auto"
    """``BYTES`` on a CPU that multiplies them faster than float32, else ``FP32``; ``FP16`` on GPUs."""
    BYTES = "bytes"
    FP16 = "fp16"
    FP32 = "fp32"


class VectorIndex(Protocol):
    """Several threads may search at once. Scores are inner products, the higher the better."""

    @property
    def count(self) -> int:
        """How many vectors it holds."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """The ``topk`` passages with the highest inner product with each query; ties by position in the corpus."""
        ...
