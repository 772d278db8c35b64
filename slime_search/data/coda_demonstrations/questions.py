"""Questions to demonstrate on: with the sub-questions that a data set knows, and worked problems of mathematics."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slime_search.data.formats import read_rows
from slime_search.errors import DataError
from slime_search.rewards.labels import gold_answers


class Step(NamedTuple):
    """A sub-question that can be searched for, and its answers."""

    question: str
    answers: list[str]


class Problem(NamedTuple):
    """A question with its answers, and either the steps to search for or a solution without search."""

    text: str
    answers: list[str]
    steps: list[Step]
    solution: str = ""


_PLACE = re.compile(r"#(\d+)")
_CALCULATION = re.compile(r"<<.*?>>")


def read_problems(path: Path) -> Iterator[Problem]:
    """Problems of a ``.jsonl`` or ``.parquet`` file: FlashRAG's data sets, ours, and GSM8K.

    A row has a ``question`` and its ``golden_answers``. MuSiQue's ``question_decomposition``, in the row or its
    ``metadata``, gives the steps; without one the question itself is the only step. A row with a ``solution``, or whose
    ``answer`` ends with ``#### 42`` as GSM8K's do, is a problem of mathematics.

    Raises:
        DataError: the file or a row of it is something else; the message names it.
    """
    for number, row in enumerate(read_rows(path), start=1):
        try:
            yield _problem(row)
        except DataError as error:
            raise DataError(f"{path}, row {number}: {error}") from None


def _problem(row: Mapping[str, Any]) -> Problem:
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"question: {text!r} is not a text")
    solution, given = row.get("solution"), row.get("answer")
    if solution is None and isinstance(given, str) and "####" in given:
        solution, _, given = given.rpartition("####")
    if isinstance(solution, str) and solution.strip():
        answers = gold_answers(given.strip() if isinstance(given, str) else given)
        return Problem(text.strip(), answers, [], _CALCULATION.sub("", solution).strip())
    known = row.get("golden_answers")
    answers = gold_answers(row.get("reward_model") if known is None else known)
    metadata = row.get("metadata") or {}
    decomposition = row.get("question_decomposition") or metadata.get("question_decomposition")
    steps = _steps(decomposition) if decomposition else [Step(_asked(text), answers)]
    return Problem(text.strip(), answers, steps)


def _steps(decomposition: Any) -> list[Step]:
    """MuSiQue's, in which ``#1`` stands for the answer to the first sub-question."""
    steps: list[Step] = []
    if isinstance(decomposition, Mapping):
        questions, answers = decomposition.get("question") or (), decomposition.get("answer") or ()
        decomposition = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
    for part in decomposition:
        if not isinstance(part, Mapping) or not {"question", "answer"} <= set(part):
            raise DataError(f"question_decomposition: {str(part)[:200]} is not a question with its answer")
        question = _PLACE.sub(lambda place: _answer_to(steps, place), str(part["question"]))
        steps.append(Step(_asked(question), gold_answers(part["answer"])))
    return steps


def _answer_to(steps: list[Step], place: re.Match[str]) -> str:
    number = int(place[1])
    if not 0 < number <= len(steps):
        raise DataError(f"question_decomposition: {place[0]} stands before its answer is known")
    return steps[number - 1].answers[0]


def _asked(question: str) -> str:
    """MuSiQue writes some as ``Inception >> director``."""
    subject, arrow, relation = question.strip().partition(" >> ")
    text = f"What is the {relation} of {subject}" if arrow else subject
    return text if text.endswith("?") else f"{text}?"
