"""Passages from a JSON Lines file, plain or gzipped, that stays on disk."""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import orjson

from slime_search.retrieval.corpus_file import Offsets, open_corpus, passage_text

_STREAMED_BYTES = 64 << 20


class Corpus:
    """Rows by their position in the file, counted from 0 over the lines that are not blank.

    A row stays the JSON text that it was, so column order, ids and numbers leave the server as they were written. The
    file may be replaced, but not changed in place, while it is open.
    """

    def __init__(self, data: mmap.mmap, offsets: Offsets) -> None:
        self._data = data
        self._offsets = offsets

    @classmethod
    def read(cls, path: Path, on_progress: Callable[[int, int], object] = lambda done, total: None) -> Self:
        """Opens JSON Lines or gzipped JSON Lines (told apart by content, not by name); a pipe will do.

        Every row is an object with its text in ``contents``, or in ``text`` with an optional ``title``. The first time,
        the whole file is read and checked, and ``on_progress`` is told now and then how many bytes of it are read, and
        how many there are. What is found out is kept beside the file, ``<name>.offsets.npy`` and for a gzipped file
        ``<name>.unpacked``, or in the user's cache folder where that can't be written; then an open takes milliseconds.

        Raises:
            CorpusError: the file can't be read or kept, a line is not such a row, or there is no row.
        """
        return cls(*open_corpus(path, on_progress))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def row(self, index: int) -> bytes:
        """One row, as the JSON text that stands in the file."""
        start, end = self._offsets[index : index + 2].tolist()
        return self._data[start:end].rstrip()

    def ids(self) -> npt.NDArray[np.int64] | None:
        """The ``id`` of every row, in order; None where one of them is no whole number of 64 bits."""
        ids = np.empty(len(self), np.int64)
        for index in range(len(self)):
            value = orjson.loads(self.row(index)).get("id")
            if isinstance(value, bool) or not isinstance(value, int | str):
                return None
            try:
                ids[index] = int(value)
            except (ValueError, OverflowError):
                return None
        return ids

    def texts(self, rows: range | None = None) -> Iterator[str]:
        """The searchable text of ``rows``, or of every row, in order; the title, where a row has one, comes before the
        text."""
        wanted = range(len(self)) if rows is None else rows
        released = int(self._offsets[wanted.start]) // mmap.PAGESIZE * mmap.PAGESIZE
        for index in wanted:
            yield passage_text(orjson.loads(self.row(index)))
            # What is read once would otherwise count as the process's memory until the kernel needs it.
            if self._offsets[index] - released > _STREAMED_BYTES:
                self._data.madvise(mmap.MADV_DONTNEED, released, _STREAMED_BYTES)
                released += _STREAMED_BYTES
