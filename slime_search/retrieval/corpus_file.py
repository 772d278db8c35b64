"""Opens a corpus file: mapped into memory, with the offsets of its rows, which are found once and kept."""

import codecs
import errno
import gzip
import io
import mmap
import os
import stat
import tarfile
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from slime_search.files import written_whole
from slime_search.retrieval.errors import CorpusError
from slime_search.retrieval.kept_files import KeptFiles, building, kept_files_of

Offsets = npt.NDArray[np.int64]
"""Where every row begins, in bytes, and the size of the file."""
Stamp = tuple[int, int, int]
"""A file's size, its time of change in ns and a checksum of its head: what says whether it is still the same."""
OnProgress = Callable[[int, int], object]
"""Told how many bytes are read, and how many there are."""

_HEAD_BYTES = 1 << 20
_LINES_PER_REPORT = 10_000
_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC, _TAR_MAGIC_AT, _TAR_BLOCK = b"ustar", 257, 512


class OpenedCorpus(NamedTuple):
    data: mmap.mmap
    offsets: Offsets


def open_corpus(path: Path, on_progress: OnProgress) -> OpenedCorpus:
    """Opens a corpus, from what an earlier start has kept where that still belongs to the file.

    Raises:
        CorpusError: as ``Corpus.read`` says.
    """
    try:
        with path.open("rb") as source:
            if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                return _spool(source, path)
            for kept in kept_files_of(path):
                if opened := _open_kept(source, kept):
                    return opened
            return _build(source, path, on_progress)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "name a readable JSON Lines file"
        raise CorpusError(f"{path}: {error.strerror}", fix) from None


class Glance(NamedTuple):
    """A corpus without opening it."""

    rows: list[bytes]
    """The first ones."""
    bytes: int
    """What they take in the file, unpacked."""
    total: int | None
    """Of all rows, where an earlier start has counted them."""
    is_packed: bool


def glance(path: Path, rows: int) -> Glance:
    """Looks at the first ``rows`` rows of a file, checks them, and keeps nothing.

    Raises:
        CorpusError: the file can't be read, one of these lines is no row, or there is none.
    """
    try:
        with path.open("rb") as source:
            kept = next((opened for files in kept_files_of(path) if (opened := _open_kept(source, files))), None)
            source.seek(0)
            packed = _is_packed(source)
            lines = _unpacked_lines(source, path) if packed else source
            first = b"".join(islice(lines, rows))
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}", "name a readable JSON Lines file") from None
    try:
        starts = scan(io.BytesIO(first), str(path)).tolist()
    except CorpusError as error:
        raise (error if packed else _by_its_name(path, error)) from None
    found = [first[start:end].rstrip() for start, end in pairwise(starts)]
    return Glance(found, len(first), len(kept.offsets) - 1 if kept else None, packed)


def passage_text(row: Any) -> str:
    """The searchable text of a parsed row: ``contents``, or ``text`` after its ``title``. Raises CorpusError."""
    if not isinstance(row, dict):
        raise CorpusError("the line is not a JSON object", "write one object a line")
    title, text, contents = row.get("title"), row.get("text"), row.get("contents")
    if isinstance(contents, str) and contents.strip():
        return contents
    if isinstance(text, str) and text.strip():
        return f"{title}\n{text}" if title else text
    raise CorpusError(f'no text in "contents" or "text" among {list(row)}', "give the row a text or delete the line")


def check_row(row: bytes, where: str) -> None:
    """Raises CorpusError, beginning with ``where``, unless ``row`` is the JSON text of a passage."""
    try:
        passage_text(orjson.loads(row))
    except orjson.JSONDecodeError as error:
        raise CorpusError(
            f"{where}: not valid JSON ({error.msg}, character {error.pos + 1})",
            "each line must be one JSON object: correct or delete the line",
        ) from None
    except CorpusError as error:
        raise CorpusError(f"{where}: {error.found}", error.fix) from None


def _open_kept(source: io.BufferedReader, kept: KeptFiles) -> OpenedCorpus | None:
    source.seek(0)
    try:
        with kept.unpacked.open("rb") if _is_packed(source) else nullcontext(source) as data:
            stamps = (stamp(source), stamp(data))
            offsets = load(kept.offsets, stamps, size=stamps[1][0])
            return None if offsets is None else OpenedCorpus(_map(data), offsets)
    except OSError:
        return None


def _build(source: io.BufferedReader, path: Path, on_progress: OnProgress) -> OpenedCorpus:
    with building(path) as (kept, offsets_file):
        # Another process may have built it while this one waited for its turn.
        if opened := _open_kept(source, kept):
            return opened
        before = stamp(source)

        def report() -> None:
            on_progress(source.tell(), before[0])

        if _is_packed(source):
            with written_whole(kept.unpacked) as new, new.open("wb") as copy:
                offsets = scan(_unpacked_lines(source, path), str(path), copy, report)
            with kept.unpacked.open("rb") as data:
                stamps = (before, stamp(data))
        else:
            try:
                offsets = scan(source, str(path), on_lines=report)
            except CorpusError as error:
                raise _by_its_name(path, error) from None
            stamps = (before, before)
        save(offsets_file, offsets, stamps)
        kept.publish_offsets(offsets_file)
    if opened := _open_kept(source, kept):
        return opened
    raise CorpusError(f"{path}: the file has changed while it was read; start again once it is complete")


def _by_its_name(path: Path, error: CorpusError) -> CorpusError:
    """What is wrong with plain lines, where the file's name promises packed ones."""
    if path.suffix not in (".gz", ".tgz"):
        return error
    return CorpusError(
        f"{path}: is not gzipped, as its name says, and no JSON Lines either ({error.found})",
        "download it again, or name the right file",
    )


def _spool(source: io.BufferedReader, path: Path) -> OpenedCorpus:
    """A pipe can't be mapped; its lines go to a file without a name, which ends with the process."""
    with tempfile.TemporaryFile() as copy:
        lines = _unpacked_lines(source, path) if _is_packed(source) else source
        offsets = scan(lines, str(path), copy)
        copy.flush()
        return OpenedCorpus(_map(copy), offsets)


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
        raise CorpusError(f"{name}: no passages", 'write one JSON object a line, like {"id": "0", "contents": "…"}')
    starts.append(end)
    return np.frombuffer(starts, np.int64)


def stamp(file: BinaryIO) -> Stamp:
    """The stamp of an open file; its position is at the beginning before and after."""
    status = os.fstat(file.fileno())
    checksum = zlib.crc32(file.read(_HEAD_BYTES))
    file.seek(0)
    return status.st_size, status.st_mtime_ns, checksum


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


def _map(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _is_packed(file: io.BufferedReader) -> bool:
    head = file.peek(_TAR_MAGIC_AT + len(_TAR_MAGIC))
    return head.startswith(_GZIP_MAGIC) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    return head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC)


def _unpacked_lines(file: io.BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines of a gzipped file, a tar or a gzipped tar, as the published wiki-18.jsonl.gz is one."""
    number = 0
    try:
        with io.BufferedReader(gzip.GzipFile(fileobj=file)) if _is_zipped(file) else nullcontext(file) as content:
            for line in _packed_file(content, path) if _is_tar(content.peek(_TAR_BLOCK)) else content:
                number += 1
                yield line
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        raise CorpusError(
            f"{path}: the packed data is damaged after line {number} ({error}); download or compress the file again"
        ) from None


def _packed_file(content: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of the first file in a tar."""
    with tarfile.open(fileobj=content, mode="r|") as packed:
        for member in packed:
            if file := packed.extractfile(member):
                yield from file
                return
    raise CorpusError(f"{path}: a tar without a file in it; name a tar of a JSON Lines file, or the file itself")


def _is_zipped(file: io.BufferedReader) -> bool:
    return file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
