"""Question sets as samples to roll out: prepared files, FlashRAG's own, or a question typed in."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from slime_search.data.prompts import as_question
from slime_search.data.questions import Message, Question, is_message, read_questions
from slime_search.errors import DataError
from slime_search.hooks.contract import sample_class

Render = Callable[[Sequence[Mapping[str, Any]]], str]
"""Chat messages to the text of a prompt."""
Sets = Mapping[str, Sequence[Question]]
"""Questions by their data set's name."""
MARK = "{question}"
"""Stands for the question in a prompt template."""
_SPLITS = ("train", "dev", "validation", "test")


def read_question_set(path: Path, *, name: str | None = None) -> list[Question]:
    """The questions of a file. The set is called ``name``, or by its file.

    Raises:
        DataError: as ``read_questions``.
    """
    name = name or path.stem
    # An index of the file's own: rows of several sources may share ids, and some have none.
    return [replace(question, id=f"{name}/{index}") for index, question in enumerate(read_questions(path, name))]


def read_sets(arguments: Sequence[str], *, limit: int | None, seed: int) -> dict[str, list[Question]]:
    """The questions of each file by its data set's name, at most ``limit`` of each, drawn by ``seed``.

    Args:
        arguments: ``FILE`` or ``NAME=FILE``. Without a name a set is called as the file is, or, where the file is
            called by its split as in FlashRAG's ``nq/test.jsonl``, as its folder is.

    Raises:
        DataError: a file can't be read, or two sets have one name.
    """
    sets: dict[str, list[Question]] = {}
    for argument in arguments:
        name, path = _named(argument)
        if name in sets:
            raise DataError(f"--test-set {argument}: there is another set {name!r}; name it with --test-set NAME=FILE")
        sets[name] = _drawn(read_question_set(path, name=name), limit, f"{seed}/{name}")
    return sets


def _named(text: str) -> tuple[str, Path]:
    name, equals, rest = text.partition("=")
    if equals and name and "/" not in name:
        return name, Path(rest)
    path = Path(text)
    return (path.resolve().parent.name if path.stem in _SPLITS else path.stem), path


def _drawn(questions: list[Question], limit: int | None, seed: str) -> list[Question]:
    if limit is None or limit >= len(questions):
        return questions
    chosen = sorted(random.Random(seed).sample(range(len(questions)), limit))
    return [questions[index] for index in chosen]


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


def read_prompt_template(path: Path) -> Callable[[str], list[Message]]:
    """From a question to its messages: a text file is one message of the user, a ``.json`` file a list of messages.

    ``{question}`` stands for the question, which gets a question mark where it lacks one, as in training.

    Raises:
        DataError: the file can't be read, is no list of messages, or has no {question} in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"--prompt-template {path}: {reason}", f"name a text file with {MARK} in it") from None
    except UnicodeDecodeError:
        raise DataError(f"--prompt-template {path}: is no UTF-8 text", "save it as one") from None
    messages = _template_messages(path, text) if path.suffix == ".json" else [{"role": "user", "content": text}]
    if not any(MARK in message["content"] for message in messages):
        raise DataError(f"{path}: write {MARK} in it, where the question goes")

    def prompt(question: str) -> list[Message]:
        asked = as_question(question)
        return [{**message, "content": message["content"].replace(MARK, asked)} for message in messages]

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
    raise DataError(f'{path}: write a list of messages, such as [{{"role": "user", "content": "… {MARK}"}}]')


def digests(sets: Sets) -> dict[str, str]:
    """What tells the drawn questions of each set from others: their number and a hash of prompts and answers."""
    return {name: f"{len(questions)} questions, sha256 {_hash(questions)}" for name, questions in sets.items()}


def _hash(questions: Sequence[Question]) -> str:
    whole = hashlib.sha256()
    for question in questions:
        asked = (question.id, question.source, question.text, question.answers)
        whole.update(orjson.dumps((*asked, question.messages, question.details)))
    return whole.hexdigest()[:16]
