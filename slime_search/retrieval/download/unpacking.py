"""Unpacks the corpus, whose archive is not what its name says: a gzipped tar file with one JSON Lines file in it."""

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from slime_search.retrieval.download.joining import OnBytes
from slime_search.retrieval.download.store import partial_of, publish
from slime_search.retrieval.errors import DownloadError

UNPACKED_RATIO = 3
"""At most this many bytes a packed byte; wiki-18 has 2.81."""
_GZIP_MAGIC = b"\x1f\x8b"
_COPIED_BYTES = 4 << 20


def is_tar(path: Path) -> bool:
    """Whether ``path`` is a tar file that is not compressed; ``gzip -d wiki-18.jsonl.gz`` leaves one."""
    with path.open("rb") as file:
        return _looks_like_tar(file.read(tarfile.BLOCKSIZE))


def unpack(source: Path, target: Path, on_bytes: OnBytes) -> None:
    """Makes ``target`` of the one ``.jsonl`` in ``source``, a file that may be gzipped, a tar file, or both.

    ``source`` is deleted, unless it is ``target``. ``on_bytes`` is told of the bytes read from ``source``.

    Raises:
        DownloadError: the archive is damaged or holds no ``.jsonl``.
    """
    try:
        with source.open("rb") as file, _lines(_Counted(file, on_bytes), source) as lines, _new(target) as copy:
            shutil.copyfileobj(lines, copy, _COPIED_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        raise DownloadError(f"{source}: the archive is damaged ({error}); delete it and run again") from error
    publish(target)
    if source != target:
        source.unlink()


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        self._on_bytes(len(block))
        return len(block)


@contextmanager
def _lines(packed: io.RawIOBase, source: Path) -> Iterator[IO[bytes]]:
    buffered = io.BufferedReader(packed, _COPIED_BYTES)
    zipped = buffered.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    data = io.BufferedReader(gzip.GzipFile(fileobj=buffered) if zipped else buffered, _COPIED_BYTES)
    if not _looks_like_tar(data.peek(tarfile.BLOCKSIZE)):
        yield data
        return
    with tarfile.open(fileobj=data, mode="r|") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".jsonl"):
                content = archive.extractfile(member)
                assert content is not None
                yield content
                return
    raise DownloadError(f"{source}: the archive holds no .jsonl file; delete it and run again")


@contextmanager
def _new(target: Path) -> Iterator[BinaryIO]:
    with partial_of(target).open("wb") as file:
        yield file


def _looks_like_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"
