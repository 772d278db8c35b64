"""Rows of every data set, and what programs on the way make of their columns."""

import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.data.prompts import chat_row, coda_row, search_r1_row
from slime_search.data.questions import Question, question_of, read_questions
from slime_search.errors import DataError

INSTRUCTION = "Answer the given question. … <answer> Beijing </answer>. Question: "
VERL = {
    "data_source": "searchR1_nq",
    "prompt": [
        {"role": "system", "content": "You are a helpful and harmless assistant."},
        {"role": "user", "content": f"{INSTRUCTION}who wrote emma?\n"},
    ],
    "ability": "fact-reasoning",
    "reward_model": {"ground_truth": {"target": ["Jane Austen"]}, "style": "rule"},
    "extra_info": {"index": 7, "need_tools_kwargs": True, "question": "who wrote emma?", "split": "train"},
    "metadata": None,
}
"""As verl's own script for Search-R1's data writes it: the question stands in ``extra_info`` and in the prompt."""


def test_verls_own_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([VERL, VERL]), tmp_path / "train.parquet")
    first, _ = read_questions(tmp_path / "train.parquet")
    assert (first.source, first.text, first.answers) == ("searchR1_nq", "who wrote emma?", ("Jane Austen",))
    assert first.messages == VERL["prompt"]


def test_a_question_that_only_the_prompt_has() -> None:
    assert question_of({**VERL, "extra_info": None}).text == "who wrote emma?"
    assert question_of({"prompt": "Who?", "label": "A"}).text == "Who?"


texts = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() == text and text.isprintable())

# What begins like a list or an object may be one that was written as text.
plain = texts.filter(lambda text: text[0] not in "[({")


@given(text=texts, answers=st.lists(plain, min_size=1, max_size=3))
@pytest.mark.parametrize("form", ["search-r1", "coda", "chat"])
def test_what_is_written_is_read(form: str, text: str, answers: list[str]) -> None:
    asked = Question("nq", "test_0", text, tuple(answers))
    rows = {
        "search-r1": lambda: search_r1_row(asked, split="test", index=0),
        "coda": lambda: coda_row(asked, split="test", index=0),
        "chat": lambda: chat_row(asked),
    }
    read = question_of(rows[form]())
    assert (read.source, read.text, read.answers) == ("nq", text, asked.answers)


@pytest.mark.parametrize(
    ("column", "answers"),
    [
        ({"golden_answers": None, "answer": "Paris"}, ("Paris",)),
        ({"golden_answers": [], "reward_model": {"ground_truth": {"target": ["Paris"]}}}, ("Paris",)),
        ({"answer": "Paris", "label": 3}, ("Paris",)),
        ({"golden_answers": '["Paris", "City of Light"]'}, ("Paris", "City of Light")),
        ({"answers": [" Paris ", ""]}, ("Paris",)),
    ],
)
def test_the_first_column_that_holds_answers(column: dict[str, Any], answers: tuple[str, ...]) -> None:
    assert question_of({"question": "Where?", **column}).answers == answers


PANDAS = {
    "the print of a list": ("['Paris', 'City of Light']", ("Paris", "City of Light")),
    "the print of an array": ("['Paris' 'City of Light']", r"answer: label: .* looks like the print of a list"),
    "a year that became a float": (1990.0, ("1990",)),
    "a boolean": (True, ("True",)),
    "a missing value": (float("nan"), "answer: label: no gold answer"),
    "a date": (datetime.datetime(1990, 5, 1), "answer: label: .* is a date that a program made of a text"),
}


@pytest.mark.parametrize(("value", "expected"), PANDAS.values(), ids=PANDAS)
def test_what_a_table_program_made_of_an_answer(tmp_path: Path, value: Any, expected: tuple[str, ...] | str) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"question": ["Where?", "Where?"], "answer": [value, value]}), path)
    if isinstance(expected, tuple):
        assert [question.answers for question in read_questions(path)] == [expected] * 2
    else:
        with pytest.raises(DataError, match=rf"table\.parquet, row 1: {expected}"):
            list(read_questions(path))


@pytest.mark.parametrize(
    "prompt", ['[{"role": "user", "content": "Who?"}]', "[{'role': 'user', 'content': 'Who?'}]"], ids=["json", "print"]
)
def test_the_print_of_messages_is_no_prompt(prompt: str) -> None:
    """pandas writes lists as texts into a CSV file, and slime would ask them word for word."""
    with pytest.raises(DataError, match=r"prompt: .* is no list of messages; write .* as a list, not as its print"):
        question_of({"question": "Who?", "answer": "A", "prompt": prompt})
    assert question_of({"prompt": "[The role of] whom?", "answer": "A"}).text == "[The role of] whom?"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"title": "Who?", "answer": "A"}, "question: none of .*; the row has the columns title, answer"),
        ({"question": 3, "answer": "A"}, "question: none of"),
        ({"question": "Who?", "answers": []}, "answers: none of .*; the row has the columns question, answers"),
        ({"question": "Who?", "answer": "A", "extra_info": "{}"}, "extra_info: '{}' is not a mapping"),
    ],
)
def test_what_is_missing_is_named_with_its_row(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    good = {"question": "Who?", "answer": "A"}
    path = tmp_path / "questions.jsonl"
    path.write_bytes(orjson.dumps(good) + b"\n\n" + orjson.dumps(row) + b"\n")
    with pytest.raises(DataError, match=f"questions.jsonl, line 3: {words}"):
        list(read_questions(path))
