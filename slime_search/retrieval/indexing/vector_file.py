"""Writes vectors to a file in chunks, so that an interrupted build goes on after the last one."""

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from slime_search.files import write_text, written_whole
from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.indexing.folder import Folder
from slime_search.retrieval.vectors.manifest import VECTORS
from slime_search.retrieval.vectors.stored import Stored

CHUNK_ROWS = 4_096

_BYTES_READ = 1 << 24


def write_vectors(
    folder: Folder,
    count: int,
    dimension: int,
    chunks: Callable[[int], Iterator[Vectors]],
    on_rows: Callable[[int], object],
) -> Stored:
    """The vectors as float16, mapped, once all are in the file.

    Args:
        folder: where to, and where an earlier run has left off.
        count: how many there will be.
        dimension: the length of each.
        chunks: gives all chunks from one row on; each has CHUNK_ROWS rows, the last one may have fewer.
        on_rows: is told how many rows are written.

    Raises:
        VectorIndexError: a vector does not fit into float16, or there are not ``count``.
    """
    path, progress = folder.store / VECTORS, folder.building / "vectors.json"
    if not path.exists():
        _allocate(path, (count, dimension))
    rows, checksum = json.loads(progress.read_text()) if progress.exists() else (0, 0)
    offset = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as file:
        if rows and _checksum(path, offset, rows * dimension * 2) != checksum:
            rows, checksum = 0, 0
        on_rows(rows)
        file.seek(offset + rows * dimension * 2)
        for chunk in chunks(rows) if rows < count else ():
            data = _halved(chunk, rows).tobytes()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            rows, checksum = rows + len(chunk), zlib.crc32(data, checksum)
            write_text(progress, json.dumps([rows, checksum]))
            on_rows(rows)
    if rows != count:
        raise VectorIndexError(f"{path}: {rows:,} vectors came where {count:,} were expected; did the corpus change?")
    vectors: Stored = np.load(path, mmap_mode="r")
    return vectors


def _allocate(path: Path, shape: tuple[int, int]) -> None:
    with written_whole(path) as new:
        np.lib.format.open_memmap(new, "w+", np.float16, shape).flush()


def _halved(chunk: Vectors, first: int) -> Stored:
    halved = chunk.astype(np.float16)
    finite = np.isfinite(halved).all(axis=1)
    if not finite.all():
        raise VectorIndexError(
            f"vector {first + int(np.argmin(finite)):,} holds NaN or a number beyond float16's 65,504; "
            "check the encoder's model and precision"
        )
    return halved


def _checksum(path: Path, offset: int, size: int) -> int:
    checksum = 0
    with path.open("rb") as file:
        file.seek(offset)
        while size > 0 and (data := file.read(min(_BYTES_READ, size))):
            checksum = zlib.crc32(data, checksum)
            size -= len(data)
    return checksum
