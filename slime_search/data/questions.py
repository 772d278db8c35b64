"""Questions with their answers, read from FlashRAG's files."""

import json
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slime_search.core.tokens import well_formed
from slime_search.errors import DataError
from slime_search.rewards.text import normalize_answer

OnBytes = Callable[[int], object]
"""Told how many more bytes were read."""


class Question(NamedTuple):
    source: str
    """The data set's name."""
    id: str
    text: str
    answers: list[str]


def read_questions(path: Path, source: str, on_bytes: OnBytes = lambda count: None) -> Iterator[Question]:
    """The rows ``{"id", "question", "golden_answers", …}`` of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: a line is not such a row, or there is none; it names file, line, field and fix.
    """
    empty = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            on_bytes(len(line))
            if line.strip():
                try:
                    yield _question(parsed_row(line), source, number)
                except DataError as error:
                    raise DataError(f"{path}, line {number}: {error}") from None
                empty = False
    if empty:
        raise DataError(f"{path}: no rows; download the file again")


def parsed_row(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises DataError where it holds something else."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            # The standard library takes more: NaN, and halves of surrogate pairs.
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"not JSON ({error}); is the file complete?") from error
    if not isinstance(row, dict):
        raise DataError(f"{line[:80].decode(errors='replace').strip()!r} is not a JSON object")
    return row


def _question(row: dict[str, Any], source: str, number: int) -> Question:
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"question = {_shown(text)}: write the question as a text, or delete the line")
    answers = row.get("golden_answers")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not all(
        isinstance(a, str | int | float) and not isinstance(a, bool) for a in answers
    ):
        raise DataError(f"golden_answers = {_shown(answers)}: write a list of texts, or delete the line")
    kept = [well_formed(str(answer).strip()) for answer in answers if str(answer).strip()]
    if not kept:
        raise DataError(f"golden_answers = {_shown(answers)}: write at least one answer, or delete the line")
    return Question(source, well_formed(str(row.get("id", number - 1))), well_formed(text.strip()), kept)


def _shown(value: Any) -> str:
    return repr(value)[:200]


_QUOTES = str.maketrans("‘’“”–—", "''\"\"--")


def key_of(question: str) -> str:
    """What two questions share that differ in case, punctuation, articles, blanks or Unicode spelling alone."""
    text = unicodedata.normalize("NFKC", question).translate(_QUOTES).casefold()
    # A question that is all punctuation and articles is only like itself.
    return normalize_answer(text) or text.strip()


class Sifted(NamedTuple):
    kept: list[Question]
    duplicates: int
    """Questions that came before."""
    leaked: int
    """Questions that are in a test set."""


def sift(questions: Iterable[Question], seen: set[str], secret: Collection[str]) -> Sifted:
    """Leaves out questions whose key is in ``secret`` or came before; adds the keys of the others to ``seen``."""
    kept: list[Question] = []
    duplicates = leaked = 0
    for question in questions:
        key = key_of(question.text)
        if key in secret:
            leaked += 1
        elif key in seen:
            duplicates += 1
        else:
            seen.add(key)
            kept.append(question)
    return Sifted(kept, duplicates, leaked)
