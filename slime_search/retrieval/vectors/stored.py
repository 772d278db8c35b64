"""The vectors themselves, in memory or in a file: few of them read at random, or all of them once."""

import mmap
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slime_search.retrieval.errors import VectorIndexError

Stored = npt.NDArray[np.float32] | npt.NDArray[np.float16]
"""Vectors that may be mapped from a file, shape (count, dimension)."""
_BYTES_AHEAD = 1 << 24
Rows = npt.NDArray[np.int64]


class RowReader:
    """Reads rows that nobody can foresee.

    From a file, all of them are announced to the kernel before the first is read, so that a disk fetches them side by
    side; reading one after the other through a mapping waits for each, and for the megabytes that the kernel reads
    ahead. What is read does not count as this process's memory either, as pages of a mapping do.
    """

    def __init__(self, vectors: Stored, rows: range | None = None) -> None:
        """Of ``vectors``, which are in memory or what ``np.memmap`` or ``np.load`` mapped, uncut, the run ``rows``."""
        rows = range(len(vectors)) if rows is None else rows
        self._vectors = vectors[rows.start : rows.stop]
        self._file = None
        if isinstance(vectors, np.memmap) and vectors.filename is not None:
            if isinstance(vectors.base, np.ndarray):
                raise ValueError("vectors: is a part of what was mapped; give the whole, and the part as rows")
            self._path = Path(vectors.filename)
            self._file = self._path.open("rb", buffering=0)
            self._row_bytes = vectors.shape[1] * vectors.itemsize
            self._start = vectors.offset + rows.start * self._row_bytes

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        return int(self._vectors.shape[1])

    def announce(self, rows: Rows) -> None:
        """Tells the kernel which rows will be read soon; -1 stands for none."""
        if self._file is None or not hasattr(os, "posix_fadvise"):  # macOS has none.
            return
        for position in self._positions(np.unique(rows[rows >= 0])):
            os.posix_fadvise(self._file.fileno(), position, self._row_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, rows: Rows) -> Stored:
        """The vectors of ``rows``, in their order, shape (rows, dimension).

        Raises:
            VectorIndexError: the file was cut short since it was opened.
        """
        if self._file is None:
            return self._vectors[rows]
        number = self._file.fileno()
        data = b"".join(os.pread(number, self._row_bytes, position) for position in self._positions(rows))
        if len(data) != len(rows) * self._row_bytes:
            raise VectorIndexError(
                f"{self._path}: was cut short while it is served", "copy it anew under another name, and start again"
            )
        # A bytearray, since torch warns of memory that can't be written.
        rows_read: Stored = np.ndarray((len(rows), self.dimension), self._vectors.dtype, bytearray(data))
        return rows_read

    def _positions(self, rows: Rows) -> list[int]:
        positions: list[int] = (self._start + rows * self._row_bytes).tolist()
        return positions


def read_ahead(path: Path) -> None:
    """Reads a file that is opened next from one end to the other, where it fits into half of the memory.

    FAISS reads what it maps one page of 4 KiB after the other: from a cold disk, 2.2 GB of codes in 52 s, where this
    takes 2.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if path.stat().st_size > memory // 2:
        return
    buffer = bytearray(_BYTES_AHEAD)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def as_tensor(vectors: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor over what may be mapped, and is never written.

    Files are mapped for reading only: a kernel grants a mapping that could be written only as far as there is memory
    for a copy of it, and refuses one of 32 GB on a machine of 24.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(vectors)


def release(vectors: Stored) -> None:
    """Lets go of what was read through a mapping, which counts as this process's memory until then."""
    mapping: object = vectors
    while isinstance(mapping, np.ndarray):
        mapping = mapping.base
    if isinstance(mapping, mmap.mmap):
        mapping.madvise(mmap.MADV_DONTNEED)
