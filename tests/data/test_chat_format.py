"""The training file of the tool-calling recipe."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slime_search.data.prompts import chat_row
from slime_search.data.questions import located_rows, question_of
from slime_search.errors import DataError
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from slime_search.rewards.labels import gold_answers

SCRIPT = Path(__file__).parents[2] / "examples" / "search_r1" / "data_preprocess.py"
SEARCH_R1_ROW = {
    "id": "train_0",
    "question": "total number of death row inmates in the us",
    "golden_answers": ["2,718"],
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Answer the given question. …"}],
    "ability": "fact-reasoning",
    "reward_model": {"ground_truth": {"target": ["2,718"]}, "style": "rule"},
    "extra_info": {"index": 0, "split": "train"},
}


def preprocess(source: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(SCRIPT), str(source), str(target)], capture_output=True, text=True)


def test_search_r1_parquet_becomes_chat_rows(tmp_path: Path) -> None:
    source, target = tmp_path / "train.parquet", tmp_path / "new" / "chat.parquet"
    pq.write_table(pa.Table.from_pylist([SEARCH_R1_ROW] * 3), source)
    done = preprocess(source, target)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(target).to_pylist()
    assert len(rows) == 3
    assert [message["role"] for message in rows[0]["messages"]] == ["system", "user"]
    assert rows[0]["messages"][1]["content"] == "total number of death row inmates in the us?"
    assert json.loads(rows[0]["tools"]) == TOOL_SCHEMAS
    assert gold_answers(rows[0]["label"]) == ["2,718"]
    assert rows[0]["metadata"] == {"question": SEARCH_R1_ROW["question"], "data_source": "nq"}


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"question": "Who?", "golden_answers": ["A", "B"]}, ["A", "B"]),
        ({"question": "Who?", "golden_answers": [], "reward_model": {"ground_truth": {"target": "A"}}}, ["A"]),
        ({"question": "Who?", "answer": "A"}, ["A"]),
    ],
)
def test_answers_are_found_where_data_sets_keep_them(row: dict[str, Any], answers: list[str]) -> None:
    assert json.loads(chat_row(question_of(row))["label"]) == answers


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"golden_answers": ["A"]}', "line 2: question"),
        ('{"question": "Who?"}', "line 2: answers"),
        ('{"question": "Who?", "golden_answers": [""]}', "line 2: golden_answers: label"),
        ("not json", "line 2"),
        ("[1]", "line 2"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    source = tmp_path / "raw.jsonl"
    source.write_text('{"question": "Who?", "golden_answers": ["A"]}\n' + line + "\n")
    done = preprocess(source, tmp_path / "chat.parquet")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert not (tmp_path / "chat.parquet").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fake.parquet").write_text("not parquet")
    for name in ("raw.csv", "fake.parquet"):
        with pytest.raises(DataError, match=name):
            list(located_rows(tmp_path / name))


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_bytes('{"question": "Où?"}\n'.encode() + '{"question": "Où?"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"raw\.jsonl, line 2: not JSON"):
        list(located_rows(path))


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text('{"question": "a"}\n\n{"question": "b"}\n \n')
    assert [(where.rpartition(", ")[2], row["question"]) for where, row in located_rows(path)] == [
        ("line 1", "a"),
        ("line 3", "b"),
    ]
