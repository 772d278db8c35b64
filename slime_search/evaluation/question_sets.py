"""Which questions an evaluation asks: files by name, and a seeded draw of them."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import orjson

from slime_search.errors import DataError
from slime_search.rollouts.questions import Question, read_question_set

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
