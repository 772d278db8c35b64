"""The vectors in a FAISS file of uncompressed vectors, mapped into memory from where they stand."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.errors import VectorIndexError

INNER_PRODUCT, L2 = 0, 1

_FLAT_KINDS = {b"IxFI", b"IxF2", b"IxFl"}
_FIELDS = struct.Struct("<4siqqq?iQ")
"""Kind, dimension, count, two unused, is_trained, metric, number of floats."""


@dataclass(frozen=True, slots=True)
class FlatHeader:
    dimension: int
    count: int
    metric: int


def read_flat_header(path: Path) -> FlatHeader | None:
    """The header of FAISS's flat index; None where the file is something else.

    Raises:
        VectorIndexError: it is one, but cut short or damaged.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        head = file.read(_FIELDS.size)
    if head[:4] not in _FLAT_KINDS:
        return None
    if len(head) < _FIELDS.size:
        raise VectorIndexError(f"{path}: ends within its header, after {len(head)} bytes", "download or build it again")
    _, dimension, count, _, _, _, metric, floats = _FIELDS.unpack(head)
    if dimension <= 0 or count < 0 or floats != dimension * count or metric not in (INNER_PRODUCT, L2):
        raise VectorIndexError(
            f"{path}: its header is damaged ({count:,} vectors of {dimension} numbers, but {floats:,} numbers, "
            f"metric {metric})",
            "download or build it again",
        )
    size, expected = path.stat().st_size, _FIELDS.size + 4 * floats
    if size != expected:
        raise VectorIndexError(
            f"{path}: has {size:,} bytes where {count:,} vectors of {dimension} numbers take {expected:,}",
            "download the rest of it" if size < expected else "it was overwritten: download it again",
        )
    return FlatHeader(dimension, count, metric)


def map_flat(path: Path, header: FlatHeader) -> npt.NDArray[np.float32]:
    """The vectors, shape (count, dimension); nothing is read before it is used."""
    shape = (header.count, header.dimension)
    return np.memmap(path, np.float32, "r", offset=_FIELDS.size, shape=shape) if header.count else np.empty(shape, "f4")
