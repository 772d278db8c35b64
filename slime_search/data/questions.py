"""Questions with their answers, from the files of any data set: one list of columns, one reader.

The files are ``.jsonl`` or ``.parquet``: FlashRAG's, those that ``prepare-data`` writes in any of its formats, those of
Search-R1 and verl, ASearcher's copies, and others with the same columns.
"""

import ast
import json
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slime_search.core.tokens import well_formed
from slime_search.errors import DataError
from slime_search.hooks.facts import question_in
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.text import normalize_answer

OnBytes = Callable[[int], object]
"""Is given the number of bytes that were read since it was last called."""

QUESTIONS = ("question", "query", "problem", "input", "instruction")
"""Columns of the question, in the row, its ``metadata`` or its ``extra_info``; of these the first that holds a text."""
PROMPTS = ("prompt", "messages")
"""Columns of a whole prompt, which is looked into where no column has the question by itself."""
ANSWERS = ("golden_answers", "reward_model", "answers", "answer", "ground_truth", "target", "label")
"""Columns of the gold answers, in any shape that ``gold_answers`` takes; of these the first that holds any."""
_MORE_ANSWERS = "aug_answer"
"""ASearcher's column of other spellings."""
_IDS = ("id", "qid", "index")

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set. ``messages`` are None where its row brings no prompt of its own."""

    source: str
    """The data set's name."""
    id: str
    text: str
    answers: tuple[str, ...]
    messages: list[Message] | None = None
    details: Mapping[str, Any] | None = None
    """The row's ``extra_info``."""


def read_questions(path: Path, source: str | None = None, on_bytes: OnBytes = lambda count: None) -> Iterator[Question]:
    """The questions of a file, in its order.

    Args:
        source: the data set's name; None for what each row says.

    Raises:
        DataError: the file can't be read, has no rows, or a row lacks a question or answers; it names file, row, column
            and fix.
    """
    empty = True
    for number, (where, row) in enumerate(located_rows(path, on_bytes)):
        try:
            yield question_of(row, source=source, number=number)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        empty = False
    if empty:
        raise DataError(f"{path}: no rows; make it again with slime-search prepare-data, or download it again")


def question_of(row: Mapping[str, Any], *, source: str | None = None, number: int = 0) -> Question:
    """The question of a row.

    Args:
        source: the data set's name; None for the row's ``data_source``.
        number: counts the file's rows from 0, and is the id of one that has none.

    Raises:
        DataError: the row has no question or no answers, or a column another shape; it names columns and value.
    """
    details = row.get("extra_info")
    if details is not None and not isinstance(details, Mapping):
        raise DataError(f"extra_info: {details!r:.200} is not a mapping; write keys and values, or leave it out")
    messages = next((messages_of(name, row[name]) for name in PROMPTS if row.get(name)), None)
    identifier = next((row[name] for name in _IDS if isinstance(row.get(name), str | int)), number)
    return Question(
        source=source if source is not None else _source_of(row),
        id=well_formed(str(identifier)),
        text=well_formed(text_of(row, messages)),
        answers=tuple(answers_of(row)),
        messages=messages,
        details=details,
    )


def _source_of(row: Mapping[str, Any]) -> str:
    metadata = row.get("metadata")
    inner = metadata.get("data_source") if isinstance(metadata, Mapping) else None
    return str(row.get("data_source") or inner or "")


def answers_of(row: Mapping[str, Any]) -> list[str]:
    """The gold answers of a row, without blanks around them.

    Raises:
        DataError: no column of ``ANSWERS`` holds any; the message says what is wrong with the first that is there.
    """
    faults = []
    for name in ANSWERS:
        if row.get(name) in (None, "", []):
            continue
        try:
            answers = gold_answers(row[name])
        except DataError as error:
            faults.append(f"{name}: {error}")
            continue
        return [well_formed(answer.strip()) for answer in [*answers, *_other_spellings(row, answers)]]
    if faults:
        raise DataError(faults[0])
    raise DataError(f"answers: none of {', '.join(ANSWERS)} holds any; the row has the columns {', '.join(row)}")


def _other_spellings(row: Mapping[str, Any], answers: Collection[str]) -> list[str]:
    try:
        return [answer for answer in gold_answers(row.get(_MORE_ANSWERS)) if answer not in answers]
    except DataError:
        return []


def text_of(row: Mapping[str, Any], messages: list[Message] | None) -> str:
    """The question of a row that may bring a prompt. Raises DataError where it has none."""
    metadata, details = row.get("metadata"), row.get("extra_info")
    for columns in (row, metadata, details):
        if not isinstance(columns, Mapping):
            continue
        for name in QUESTIONS:
            text = columns.get(name)
            if isinstance(text, str) and text.strip():
                return text.strip()
    said = [message["content"] for message in messages or () if message["role"] == "user"]
    if said and said[-1].strip():
        return question_in(said[-1]).strip()
    raise DataError(
        f"question: none of {', '.join((*QUESTIONS, *PROMPTS))} holds a text; the row has the columns {', '.join(row)}"
    )


def messages_of(column: str, value: Any) -> list[Message]:
    """A row's own prompt. Plain text is a message of the user's, as for slime's ``--apply-chat-template``.

    Raises:
        DataError: it is no list of messages, or a text that a program has made of one.
    """
    match value:
        case str() if not _is_printed_list(value):
            return [{"role": "user", "content": value}]
        case [*rows] if rows and all(map(is_message, rows)):
            return rows
    raise DataError(
        f"{column}: {value!r:.200} is no list of messages; write [{{'role': 'user', 'content': …}}], as a list, not "
        "as its print"
    )


def is_message(row: Any) -> bool:
    return isinstance(row, Mapping) and all(isinstance(row.get(key), str) for key in ("role", "content"))


def _is_printed_list(text: str) -> bool:
    """Whether a text is the JSON or the print of a list of messages, which would be asked word for word."""
    if not text.lstrip().startswith("[") or "role" not in text:
        return False
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return isinstance(value, list) and bool(value) and all(map(is_message, value))
    return False


def located_rows(path: Path, on_bytes: OnBytes = lambda count: None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a ``.parquet`` or ``.jsonl`` file, each with where it is: ``FILE, line 3`` or ``FILE, row 3``.

    Blank lines are passed over, as slime does.

    Raises:
        DataError: it has another ending, can't be read, or a line is not a JSON object.
    """
    try:
        if path.suffix == ".parquet":
            for number, row in zip(count(1), _parquet_rows(path)):
                yield f"{path}, row {number}", row
        elif path.suffix == ".jsonl":
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    on_bytes(len(line))
                    if line.strip():
                        where = f"{path}, line {number}"
                        try:
                            row = parsed_row(line)
                        except DataError as error:
                            raise DataError(f"{where}: {error}") from None
                        yield where, row
        else:
            raise DataError(f"{path}: give a .parquet or .jsonl file")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; name a file of questions that can be read") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file ({error})") from error


def parsed_row(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises DataError where it holds something else."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            # The standard library takes more: NaN, and halves of surrogate pairs.
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON ({error}); is the file complete?") from error
    if not isinstance(row, dict):
        raise DataError(f"{line[:80].decode(errors='replace').strip()!r} is not a JSON object")
    return row


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


def sift(questions: Iterable[Question], seen: set[str], blocked: Collection[str]) -> Sifted:
    """Leaves out questions whose key is in ``blocked`` or came before; adds the keys of the others to ``seen``."""
    kept: list[Question] = []
    duplicates = leaked = 0
    for question in questions:
        key = key_of(question.text)
        if key in blocked:
            leaked += 1
        elif key in seen:
            duplicates += 1
        else:
            seen.add(key)
            kept.append(question)
    return Sifted(kept, duplicates, leaked)
