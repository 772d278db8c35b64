"""What questions ask, without their answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slime_search.core.tokens import well_formed
from slime_search.data.questions import PROMPTS, located_rows, messages_of, text_of
from slime_search.errors import DataError


def read_asked(path: Path) -> Iterator[str]:
    """What the questions of a file ask, without answers: of one that ``read_questions`` takes, or of a ``.txt`` file
    with one a line.

    Raises:
        DataError: the file can't be read, asks nothing, or a row lacks a question.
    """
    asked = _lines(path) if path.suffix == ".txt" else map(_asked_in, located_rows(path))
    empty = True
    for text in asked:
        yield text
        empty = False
    if empty:
        raise DataError(f"{path}: asks nothing; name a .jsonl, .parquet or .txt file of questions")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from filter(None, map(str.strip, lines))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; name a file of questions that can be read") from error


def _asked_in(located: tuple[str, dict[str, Any]]) -> str:
    where, row = located
    try:
        messages = next((messages_of(name, row[name]) for name in PROMPTS if row.get(name)), None)
        return well_formed(text_of(row, messages))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
