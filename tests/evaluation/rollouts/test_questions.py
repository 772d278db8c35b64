"""Rows of every shape that files of questions have."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from slime_search.data.questions import Question
from slime_search.errors import DataError
from slime_search.evaluation.questions import read_question_set, sample_of

ROW = {"question": "Who made it?", "golden_answers": ["x"]}


def read(folder: Path, line: bytes) -> Question:
    path = folder / "q.jsonl"
    path.write_bytes(line)
    (question,) = read_question_set(path)
    return question


def test_what_a_row_says_beside_the_question_does_not_take_its_place(tmp_path: Path) -> None:
    row = {**ROW, "extra_info": {"question": "another", "data_source": "elsewhere", "hops": 2}}
    question = read(tmp_path, orjson.dumps(row))
    sample = sample_of(question, [], None)
    assert sample.metadata == {"question": "Who made it?", "data_source": "q", "hops": 2}


def test_a_prompt_of_plain_text_is_a_message_as_in_slime(tmp_path: Path) -> None:
    question = read(tmp_path, orjson.dumps({**ROW, "prompt": "Say who made it."}))
    assert question.messages == [{"role": "user", "content": "Say who made it."}]
    assert read(tmp_path, orjson.dumps({**ROW, "prompt": ""})).messages is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"extra_info": "x"}, "line 1: extra_info: 'x' is not a mapping"),
        ({"prompt": ["x"]}, r"line 1: prompt: \['x'\] is no list of messages"),
        ({"prompt": [{"role": "user"}]}, r"line 1: prompt: .* is no list of messages"),
        ({"question": None, "metadata": "x"}, "line 1: question: none of .* holds a text"),
    ],
)
def test_a_column_of_another_shape_is_named(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, orjson.dumps({**ROW, **fields}))


def test_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl, line 1: not JSON \('utf-8' codec"):
        read(tmp_path, '{"question": "é"}'.encode("latin-1"))


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    line = rb'{"question": "Who \ud83d made it?", "golden_answers": ["\udc00"]}'
    question = read(tmp_path, line)
    assert (question.text, question.answers) == ("Who \ufffd made it?", ("\ufffd",))
