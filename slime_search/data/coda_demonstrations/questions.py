"""Questions to demonstrate on: with the sub-questions that a data set knows, and worked problems of mathematics."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slime_search.data.prompts import as_question
from slime_search.data.questions import located_rows, question_of
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


_REFERENCE = re.compile(r"#(\d+)")
_CALCULATION = re.compile(r"<<.*?>>")


def read_problems(path: Path) -> Iterator[Problem]:
    """Problems of a ``.jsonl`` or ``.parquet`` file: FlashRAG's data sets, ours, and GSM8K.

    A row has a ``question`` and its ``golden_answers``. MuSiQue's ``question_decomposition``, in the row or its
    ``metadata``, gives the steps; without one the question itself is the only step. A row with a ``solution``, or whose
    ``answer`` ends with ``#### 42`` as GSM8K's do, is a problem of mathematics.

    Raises:
        DataError: the file or a row of it is something else; the message names it.
    """
    for where, row in located_rows(path):
        try:
            yield _problem(row)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _problem(row: Mapping[str, Any]) -> Problem:
    solution, given = row.get("solution"), row.get("answer")
    if solution is None and isinstance(given, str) and "####" in given:
        solution, _, given = given.rpartition("####")
    if isinstance(solution, str) and solution.strip():
        question = question_of({**row, "answer": given})
        return Problem(question.text, list(question.answers), [], _CALCULATION.sub("", solution).strip())
    question = question_of(row)
    metadata = row.get("metadata") or {}
    decomposition = row.get("question_decomposition") or metadata.get("question_decomposition")
    answers = list(question.answers)
    steps = _steps(decomposition) if decomposition else [Step(_asked(question.text), answers)]
    return Problem(question.text, answers, steps)


def _steps(decomposition: Any) -> list[Step]:
    """MuSiQue's, in which ``#1`` stands for the answer to the first sub-question."""
    steps: list[Step] = []
    if isinstance(decomposition, Mapping):
        questions, answers = decomposition.get("question") or (), decomposition.get("answer") or ()
        decomposition = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
    for part in decomposition:
        if not isinstance(part, Mapping) or not {"question", "answer"} <= set(part):
            raise DataError(f"question_decomposition: {str(part)[:200]} is not a question with its answer")
        question = _REFERENCE.sub(lambda reference: _answer_to(steps, reference), str(part["question"]))
        steps.append(Step(_asked(question), gold_answers(part["answer"])))
    return steps


def _answer_to(steps: list[Step], reference: re.Match[str]) -> str:
    number = int(reference[1])
    if not 0 < number <= len(steps):
        raise DataError(f"question_decomposition: {reference[0]} stands before its answer is known")
    return steps[number - 1].answers[0]


def _asked(question: str) -> str:
    """MuSiQue writes some as ``Inception >> director``."""
    subject, arrow, relation = question.strip().partition(" >> ")
    text = f"What is the {relation} of {subject}" if arrow else subject
    return as_question(text)
