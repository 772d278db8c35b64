"""What every encoder offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""One row a text or passage, shape (n, dimension), C-contiguous."""
AUTO = "auto"
"""Stands for a model that says itself how it is used: a sentence-transformers folder with modules and prompts."""


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


@dataclass(frozen=True, slots=True)
class Family:
    """How the models of one family were trained to be used."""

    query_prefix: str
    passage_prefix: str
    pooling: Literal["mean", "cls"]
    normalize: bool
    """Whether vectors have length 1, so that inner products are cosines."""


FAMILIES = MappingProxyType(
    {
        # Wang et al. 2022 (arXiv:2212.03533), section 4 and the model cards.
        "e5": Family("query: ", "passage: ", "mean", normalize=True),
        # Xiao et al. 2023 (arXiv:2309.07597) and the model cards of bge-*-en-v1.5.
        "bge": Family("Represent this sentence for searching relevant passages: ", "", "cls", normalize=True),
        # Izacard et al. 2022 (arXiv:2112.09118), section 3: the mean of the last layer, compared by inner product.
        "contriever": Family("", "", "mean", normalize=False),
        # Karpukhin et al. 2020 (arXiv:2004.04906), section 3: the first token's vector, compared by inner product.
        "dpr": Family("", "", "cls", normalize=False),
    }
)
