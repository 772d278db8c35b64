"""Question sets as samples to roll out: prepared files, FlashRAG's own, or a question typed in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_search.data.chat_format import read_rows
from slime_search.errors import DataError
from slime_search.local.sample import sample_class
from slime_search.rewards.labels import gold_answers
from slime_search.tokens import well_formed

Render = Callable[[Sequence[Mapping[str, Any]]], str]
"""Chat messages to the text of a prompt."""

_LABELS = ("reward_model", "label", "golden_answers", "answers", "answer")
_MESSAGES = ("prompt", "messages")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set. ``messages`` are None where its row brings no prompt of its own."""

    id: str
    source: str
    text: str
    answers: tuple[str, ...]
    messages: list[dict[str, str]] | None = None
    details: Mapping[str, Any] | None = None
    """The row's ``extra_info``."""


def read_question_set(path: Path, *, name: str | None = None) -> list[Question]:
    """The questions of a ``.parquet`` or ``.jsonl`` file with a ``question`` and answers in each row.

    Reads what ``prepare-data`` writes, in any of its formats, and FlashRAG's own files. The set is called ``name``, or
    by its file.

    Raises:
        DataError: the file can't be read, is empty, or a row lacks a column; it names file, row and column.
    """
    name = name or path.stem
    questions = []
    try:
        for number, row in enumerate(read_rows(path), start=1):
            try:
                questions.append(_question(row, name, number))
            except DataError as error:
                raise DataError(f"{path}, row {number}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a file of questions, as prepare-data makes them") from error
    if not questions:
        raise DataError(f"{path}: no rows; make it again with slime-search prepare-data")
    return questions


def _question(row: Mapping[str, Any], name: str, number: int) -> Question:
    metadata = row.get("metadata")
    text = row.get("question") or (metadata.get("question") if isinstance(metadata, Mapping) else None)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"question: {text!r} is not a text; the row has the columns {', '.join(row)}")
    label = next((row[key] for key in _LABELS if row.get(key) not in (None, "", [])), None)
    if label is None:
        raise DataError(f"answers: none of {', '.join(_LABELS)} is in the row, which has {', '.join(row)}")
    details = row.get("extra_info")
    if details is not None and not isinstance(details, Mapping):
        raise DataError(f"extra_info: {details!r} is not a mapping; write keys and values, or leave it out")
    messages = next((_messages(key, row[key]) for key in _MESSAGES if row.get(key)), None)
    # An index of the file's own: rows of several sources may share ids, and some have none.
    place = f"{name}/{number - 1}"
    answers = tuple(map(well_formed, gold_answers(label)))
    return Question(place, name, well_formed(text.strip()), answers, messages, details)


def _messages(column: str, value: Any) -> list[dict[str, str]]:
    """A row's own prompt. Plain text is a message of the user's, as for slime's ``--apply-chat-template``."""
    match value:
        case str():
            return [{"role": "user", "content": value}]
        case [*rows] if all(map(is_message, rows)):
            return rows
    raise DataError(f"{column}: {value!r} is no list of messages; write [{{'role': 'user', 'content': …}}]")


def is_message(row: Any) -> bool:
    return isinstance(row, Mapping) and all(isinstance(row.get(key), str) for key in ("role", "content"))


def sample_of(question: Question, messages: Sequence[Mapping[str, str]], render: Render | None) -> Any:
    """A sample as slime's data source makes it. Without gold answers it has no label, and gets no reward.

    Args:
        messages: what the question is asked with.
        render: slime's ``--apply-chat-template``. None leaves messages.
    """
    return sample_class()(
        prompt=render(messages) if render else messages,
        label={"ground_truth": {"target": list(question.answers)}} if question.answers else None,
        metadata={**(question.details or {}), "question": question.text, "data_source": question.source},
    )
