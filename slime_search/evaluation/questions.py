"""Question sets as samples to roll out: prepared files, FlashRAG's own, or a question typed in."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import orjson

from slime_search.core.tokens import well_formed
from slime_search.data.formats import as_question, read_rows
from slime_search.errors import DataError
from slime_search.evaluation.recipes import Message
from slime_search.hooks.contract import sample_class
from slime_search.rewards.labels import gold_answers

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


PLACE = "{question}"


def read_prompt_template(path: Path) -> Callable[[str], list[Message]]:
    """From a question to its messages: a text file is one message of the user, a ``.json`` file a list of messages.

    ``{question}`` stands for the question, which gets a question mark where it lacks one, as in training.

    Raises:
        DataError: the file can't be read, is no list of messages, or has no place for the question.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as a prompt ({error})") from None
    messages = _template_messages(path, text) if path.suffix == ".json" else [{"role": "user", "content": text}]
    if not any(PLACE in message["content"] for message in messages):
        raise DataError(f"{path}: write {PLACE} in it, where the question goes")

    def prompt(question: str) -> list[Message]:
        asked = as_question(question)
        return [{**message, "content": message["content"].replace(PLACE, asked)} for message in messages]

    return prompt


def _template_messages(path: Path, text: str) -> list[Message]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{path}: not JSON ({error}); a prompt of plain text has another ending, such as .txt"
        ) from None
    match value:
        case [*rows] if rows and all(map(is_message, rows)):
            return [{"role": row["role"], "content": row["content"]} for row in rows]
    raise DataError(f'{path}: write a list of messages, such as [{{"role": "user", "content": "… {PLACE}"}}]')


Sets = Mapping[str, Sequence[Question]]
"""Questions by their data set's name."""
_SPLITS = ("train", "dev", "validation", "test")


def read_sets(told: Sequence[str], *, limit: int | None, seed: int) -> dict[str, list[Question]]:
    """The questions of each file by its data set's name, at most ``limit`` of each, drawn by ``seed``.

    Args:
        told: ``FILE`` or ``NAME=FILE``. Without a name a set is called as the file is, or, where the file is called by
            its split as in FlashRAG's ``nq/test.jsonl``, as its folder is.

    Raises:
        DataError: a file can't be read, or two sets have one name.
    """
    sets: dict[str, list[Question]] = {}
    for text in told:
        name, path = _named(text)
        if name in sets:
            raise DataError(f"--test-set {text}: there is another set {name!r}; name it with --test-set NAME=FILE")
        sets[name] = _drawn(read_question_set(path, name=name), limit, f"{seed}/{name}")
    return sets


def digests(sets: Sets) -> dict[str, str]:
    """What tells the drawn questions of each set from others: their number and a hash of prompts and answers."""
    return {name: f"{len(questions)} questions, sha256 {_hash(questions)}" for name, questions in sets.items()}


def _named(text: str) -> tuple[str, Path]:
    name, equals, rest = text.partition("=")
    if equals and name and "/" not in name:
        return name, Path(rest)
    path = Path(text)
    return (path.resolve().parent.name if path.stem in _SPLITS else path.stem), path


def _drawn(questions: list[Question], limit: int | None, seed: str) -> list[Question]:
    if limit is None or limit >= len(questions):
        return questions
    places = sorted(random.Random(seed).sample(range(len(questions)), limit))
    return [questions[place] for place in places]


def _hash(questions: Sequence[Question]) -> str:
    whole = hashlib.sha256()
    for question in questions:
        whole.update(orjson.dumps(astuple(question)))
    return whole.hexdigest()[:16]
