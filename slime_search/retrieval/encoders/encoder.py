"""What every encoder offers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""One row a text or passage, shape (n, dimension), C-contiguous."""


class QueryEncoder(Protocol):
    """Several threads may call it at once."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query, in order."""
        ...


class Encoder(QueryEncoder, Protocol):
    """Several threads may call it at once."""

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """One vector a passage, in order."""
        ...
