"""Vectors as they are scanned: as they are, or each number rounded to one byte."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from slime_search.retrieval.encoders.encoder import Vectors

_DEVIATIONS = 5
"""Rounding errors count as random, so that this many standard deviations bound their sum."""
_CALIBRATION_ROWS = 8_192
_ROWS_IN_CACHE = 1_024
"""Codes that a thread multiplies at once: with more of them, what the product reads again has left its cache."""


class Prepared(NamedTuple):
    """Queries as the scan multiplies them. An inner product is ``factors`` times what the scan finds, + ``offsets``."""

    columns: torch.Tensor
    """Shape (dimension, queries)."""
    factors: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]


class Codes(Protocol):
    """A run of vectors on one device."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def prepare(self, queries: Vectors) -> Prepared: ...

    def margins(self, queries: Vectors, longest: float) -> npt.NDArray[np.float64]:
        """How far each query's products may be from the true ones, with vectors no longer than ``longest``."""
        ...

    def products(self, start: int, stop: int, columns: torch.Tensor) -> torch.Tensor:
        """Shape (stop - start, queries)."""
        ...


class PlainCodes:
    """The vectors as float32 or float16; a CPU, which is slow at float16, turns it into float32 block by block."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self._vectors = vectors
        self._widened = vectors.device.type == "cpu"
        self.device = vectors.device

    def __len__(self) -> int:
        return len(self._vectors)

    def prepare(self, queries: Vectors) -> Prepared:
        columns = torch.from_numpy(queries).to(self.device, torch.float32 if self._widened else self._vectors.dtype)
        return Prepared(_transposed(columns), np.ones(len(queries)), np.zeros(len(queries)))

    def margins(self, queries: Vectors, longest: float) -> npt.NDArray[np.float64]:
        # Float32 rounds only its sums, float16 the numbers that go in and the sum that comes out.
        rounding = 8.0 if self._vectors.dtype == torch.float32 else _share(queries) + 0.5
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
        return np.asarray(lengths * longest * rounding * torch.finfo(self._vectors.dtype).eps)

    def products(self, start: int, stop: int, columns: torch.Tensor) -> torch.Tensor:
        vectors = self._vectors[start:stop]
        return (vectors.float() if self._widened else vectors) @ columns


class ByteScale(NamedTuple):
    """How numbers become bytes: ``(number - centre) / step``, rounded, each dimension on its own."""

    centre: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, sample: Vectors) -> "ByteScale":
        """From some of the vectors; what lies a little outside of their range still fits."""
        centre = sample.mean(axis=0)
        reach = np.abs(sample - centre).max(axis=0) * 1.1
        return cls(centre, np.maximum(reach / 127, 1e-12).astype(np.float32))

    def encode(self, vectors: Vectors) -> tuple[npt.NDArray[np.int8], float, float]:
        """The bytes, the length of the largest rounding error, and that of the longest vector, both in steps."""
        exact = (vectors - self.centre) / self.step
        rounded = np.clip(np.rint(exact), -127, 127)
        lost = np.linalg.norm(exact - rounded, axis=1).max(initial=0.0)
        return rounded.astype(np.int8), float(lost), float(np.linalg.norm(rounded, axis=1).max(initial=0.0))


class ByteCodes:
    """One byte a number, multiplied as integers where the CPU is fast at that."""

    def __init__(self, codes: torch.Tensor, scale: ByteScale, *, lost: float, longest: float, integers: bool) -> None:
        self._codes = codes
        self._scale = scale
        self._lost = lost
        self._longest = longest
        self._integers = integers
        self.device = codes.device

    def __len__(self) -> int:
        return len(self._codes)

    def prepare(self, queries: Vectors) -> Prepared:
        factors, rounded, _ = self._rounded(queries)
        offsets = queries.astype(np.float64) @ self._scale.centre.astype(np.float64)
        columns = torch.from_numpy(rounded.astype(np.int8 if self._integers else np.float32))
        return Prepared(_transposed(columns.to(self.device)), factors, offsets)

    def margins(self, queries: Vectors, longest: float) -> npt.NDArray[np.float64]:
        factors, rounded, scaled = self._rounded(queries)
        of_vectors = np.linalg.norm(scaled, axis=1) * self._lost
        of_query = np.linalg.norm(scaled - rounded * factors[:, None], axis=1) * self._longest
        likely = np.hypot(of_vectors, of_query) * _DEVIATIONS / np.sqrt(queries.shape[1])
        return np.asarray(np.minimum(of_vectors + of_query, likely))

    def _rounded(self, queries: Vectors) -> tuple[npt.NDArray[np.float64], ...]:
        scaled = queries.astype(np.float64) * self._scale.step
        factors = np.maximum(np.abs(scaled).max(axis=1), 1e-300) / 127
        return factors, np.rint(scaled / factors[:, None]), scaled

    def products(self, start: int, stop: int, columns: torch.Tensor) -> torch.Tensor:
        codes = self._codes[start:stop]
        if not self._integers:
            return codes.float() @ columns
        products = torch.empty(len(codes), columns.shape[1], dtype=torch.int32)
        rows = _ROWS_IN_CACHE * torch.get_num_threads()
        for first in range(0, len(codes), rows):
            torch._int_mm(codes[first : first + rows], columns, out=products[first : first + rows])
        return products


def _transposed(rows: torch.Tensor) -> torch.Tensor:
    # contiguous() would keep the strides of a single row or column, which torch._int_mm misreads.
    return torch.empty(rows.shape[::-1], dtype=rows.dtype, device=rows.device).copy_(rows.T)


def _share(queries: Vectors) -> float:
    """How much of the largest possible sum of rounding errors is to be reckoned with."""
    return float(min(1.0, _DEVIATIONS / np.sqrt(queries.shape[1])))


def integers_are_fast(dimension: int) -> bool:
    """Whether this CPU multiplies bytes faster than float32, for one query and for many; takes milliseconds."""
    floats = torch.rand(_CALIBRATION_ROWS, dimension)
    codes = (floats * 127).to(torch.int8)
    for queries in (1, 32):
        try:
            as_integers = _fastest_s(codes, _transposed(codes[:queries]), torch._int_mm)
        except (AttributeError, RuntimeError):  # Not in this build of torch.
            return False
        if as_integers > _fastest_s(floats, _transposed(floats[:queries]), torch.mm):
            return False
    return True


def _fastest_s(
    left: torch.Tensor, right: torch.Tensor, product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> float:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product(left, right)
        times.append(time.perf_counter() - start)
    return min(times)
