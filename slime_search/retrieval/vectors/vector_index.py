"""What every index over vectors offers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.errors import VectorIndexError

if TYPE_CHECKING:
    from slime_search.retrieval.vectors.effort import Effort


@dataclass(frozen=True, slots=True)
class Part:
    """The ``index``-th, counted from 0, of ``of`` nearly equal runs of consecutive vectors."""

    index: int
    of: int

    def rows(self, count: int) -> range:
        """Which of ``count`` vectors are in it. Raises VectorIndexError where there is no such part."""
        if not 0 <= self.index < self.of <= count:
            raise VectorIndexError(
                f"part {self.index} of {self.of} does not exist among {count:,} vectors; "
                f"name a part from 0 to {self.of - 1}, of at most {count:,}"
            )
        return range(count * self.index // self.of, count * (self.index + 1) // self.of)


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

    @property
    def effort(self) -> "Effort | None":
        """How hard an approximate index searches, and what it finds; None for others."""
        ...

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """The ``topk`` passages with the highest inner product with each query; ties by position in the corpus."""
        ...


def check_queries(queries: Vectors, dimension: int) -> Vectors:
    """The queries, contiguous. Raises ValueError where they do not fit the index."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise ValueError(
            f"queries have the shape {queries.shape}, the index takes (queries, {dimension}): "
            "the encoder is not the one that the index was built with"
        )
    if not np.isfinite(queries).all():
        raise ValueError("a query's vector holds NaN or inf; check the encoder's model and precision")
    return np.ascontiguousarray(queries, np.float32)
