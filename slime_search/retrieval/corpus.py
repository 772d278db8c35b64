"""Passages from a JSON Lines file, plain or gzipped."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

_GZIP_MAGIC = b"\x1f\x8b"
_LINES_PER_REPORT = 10_000


class CorpusError(ValueError):
    """A corpus file can't be served; the message names the file, the line and the fix."""


class Corpus:
    """Rows by their position in the file, counted from 0 over the lines that are not blank.

    A row stays the JSON text that it was, so column order, ids and numbers leave the server as they were written.
    """

    def __init__(self, rows: Sequence[bytes]) -> None:
        self._rows = rows

    @classmethod
    def read(cls, path: Path, on_progress: Callable[[int, int], object] = lambda done, total: None) -> Self:
        """Reads and checks a whole file, JSON Lines or gzipped JSON Lines (told apart by content, not by name).

        Every row is an object with its text in ``contents``, or in ``text`` with an optional ``title``. A pipe will do.
        ``on_progress`` is told now and then how many bytes of the file are read, and how many there are.

        Raises:
            CorpusError: the file can't be read, a line is not such a row, or there is no row.
        """
        rows: list[bytes] = []
        number = 0
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                for number, line in enumerate(_lines(file), start=1):
                    if size and number % _LINES_PER_REPORT == 0:
                        on_progress(file.tell(), size)
                    if row := line.strip():
                        _parse_row(row, f"{path}, line {number}")
                        rows.append(row)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CorpusError(
                f"{path}: the gzip data is damaged after line {number} ({error}); download or compress the file again"
            ) from None
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror}; name a readable JSON Lines file") from None
        if not rows:
            raise CorpusError(f'{path}: no passages; write one JSON object a line, like {{"id": "0", "contents": "…"}}')
        return cls(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> bytes:
        """One row, as the JSON text that stands in the file."""
        return self._rows[index]

    def texts(self) -> Iterator[str]:
        """The searchable text of every row, in order; the title, where a row has one, comes before the text."""
        return (_passage_text(orjson.loads(row)) for row in self._rows)


def _passage_text(row: Any) -> str:
    if not isinstance(row, dict):
        raise ValueError("the line is not a JSON object; write one object a line")
    title, text, contents = row.get("title"), row.get("text"), row.get("contents")
    if isinstance(contents, str) and contents.strip():
        return contents
    if isinstance(text, str) and text.strip():
        return f"{title}\n{text}" if title else text
    raise ValueError(f'no text in "contents" or "text" among {list(row)}; give the row a text or delete the line')


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    zipped = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    for number, line in enumerate(gzip.GzipFile(fileobj=file) if zipped else file):
        yield line.removeprefix(codecs.BOM_UTF8) if number == 0 else line


def _parse_row(row: bytes, where: str) -> None:
    try:
        _passage_text(orjson.loads(row))
    except orjson.JSONDecodeError as error:
        raise CorpusError(
            f"{where}: not valid JSON ({error.msg}, character {error.pos + 1}); "
            "each line must be one JSON object: correct or delete the line"
        ) from None
    except ValueError as error:
        raise CorpusError(f"{where}: {error}") from None
