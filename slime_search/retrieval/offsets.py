"""Where the rows of a JSON Lines file begin: found once, then kept in a file."""

import codecs
import os
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from slime_search.retrieval.passages import CorpusError, check_row

Offsets = npt.NDArray[np.int64]
"""Where every row begins, in bytes, and the size of the file."""

Stamp = tuple[int, int, int]
"""A file's size, its time of change in ns and a checksum of its head: what says whether it is still the same."""

_HEAD_BYTES = 1 << 20
_LINES_PER_REPORT = 10_000


def stamp(file: BinaryIO) -> Stamp:
    """The stamp of an open file; its position is at the beginning before and after."""
    status = os.fstat(file.fileno())
    checksum = zlib.crc32(file.read(_HEAD_BYTES))
    file.seek(0)
    return status.st_size, status.st_mtime_ns, checksum


def scan(
    lines: Iterable[bytes], name: str, copy_to: BinaryIO | None = None, on_lines: Callable[[], object] = lambda: None
) -> Offsets:
    """Checks every line, except blank ones, and says where it begins, behind its leading whitespace.

    Args:
        lines: with their ends; a byte order mark at the very beginning is no part of the first row.
        name: what messages call the file.
        copy_to: where the lines are written to, unchanged.
        on_lines: called now and then.

    Raises:
        CorpusError: a line is not a row, or there is none.
    """
    starts = array("q")
    end = 0
    for number, line in enumerate(lines, start=1):
        if copy_to is not None:
            copy_to.write(line)
        end += len(line)
        row = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).lstrip()
        if row:
            check_row(row.rstrip(), f"{name}, line {number}")
            starts.append(end - len(row))
        if number % _LINES_PER_REPORT == 0:
            on_lines()
    if not starts:
        raise CorpusError(f'{name}: no passages; write one JSON object a line, like {{"id": "0", "contents": "…"}}')
    starts.append(end)
    return np.frombuffer(starts, np.int64)


def save(file: BinaryIO, offsets: Offsets, stamps: tuple[Stamp, ...]) -> None:
    """Writes an .npy file: the numbers of ``stamps``, then ``offsets``."""
    np.save(file, np.concatenate([np.array(stamps, np.int64).ravel(), offsets]))


def load(path: Path, stamps: tuple[Stamp, ...], size: int) -> Offsets | None:
    """What ``save`` wrote to ``path``, memory-mapped; None unless it belongs to ``stamps`` and to ``size`` bytes."""
    try:
        numbers = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    expected = np.array(stamps, np.int64).ravel()
    if numbers.dtype != np.int64 or numbers.ndim != 1 or len(numbers) < len(expected) + 2:
        return None
    if not np.array_equal(numbers[: len(expected)], expected) or numbers[-1] != size:
        return None
    return np.asarray(numbers[len(expected) :])
