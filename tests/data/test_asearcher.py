"""``slime-search prepare-data asearcher``: questions in many columns to training files."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from slime_search.cli.prepare_data import app
from slime_search.data.questions import question_of
from slime_search.errors import DataError
from slime_search.recipes.distillation.recipe import TOOL_SCHEMAS

Rows = list[dict[str, Any]]


@pytest.fixture
def flashrag(tmp_path: Path) -> Path:
    path = tmp_path / "flashrag/hotpotqa/dev.jsonl"
    path.parent.mkdir(parents=True)
    rows = [{"id": n, "question": f"hotpot {n}", "golden_answers": ["H"]} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "flashrag"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["asearcher", *map(str, arguments)])


def rows_of(path: Path) -> Rows:
    rows: Rows = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("row", "text", "answers"),
    [
        ({"question": " Who? ", "answer": "A"}, "Who?", ["A"]),
        ({"question": "Who?", "answer": ["A", "B"], "aug_answer": ["B", "C"]}, "Who?", ["A", "B", "C"]),
        ({"query": "Who?", "ground_truth": {"target": ["A"]}}, "Who?", ["A"]),
        (
            {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Who?"}], "label": '["A"]'},
            "Who?",
            ["A"],
        ),
        ({"prompt": None, "problem": "Who?", "reward_model": {"ground_truth": "A", "style": "rule"}}, "Who?", ["A"]),
        ({"extra_info": {"question": "Who?"}, "answers": [1984]}, "Who?", ["1984"]),
        ({"question": "Who?", "answer": 0, "aug_answer": None}, "Who?", ["0"]),
    ],
)
def test_where_a_copy_keeps_question_and_answers(row: dict[str, Any], text: str, answers: list[str]) -> None:
    found = question_of(row, source="asearcher")
    assert (found.text, list(found.answers), found.source) == (text, answers, "asearcher")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"title": "Who?", "answer": "A"}, "question: none of .*the row has the columns title, answer"),
        ({"question": "Who?", "answer": []}, "answers: none of .*the row has the columns question, answer"),
        ({"question": "Who?", "answer": " "}, "answers"),
    ],
)
def test_a_row_without_them_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        question_of(row)


def test_training_validation_and_hotpotqa(flashrag: Path, tmp_path: Path) -> None:
    rows = [{"question": f"question {n}", "answer": [f"A{n}"]} for n in range(20)]
    rows += [{"question": "Question 3?", "answer": ["A3"]}, {"question": "hotpot 1", "answer": ["H"]}]
    source = tmp_path / "copies"
    source.mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:10]), source / "one.parquet")
    (source / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[10:]))
    result = run("--source", source, "--data-dir", flashrag, "--output", tmp_path / "out", "--validation", 5)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "15 questions to train on and 5 held out, of 22 (1 were there twice, 1 are in HotpotQA's dev split)" in told
    assert "--input-key messages --tool-key tools --label-key label" in told
    train, held_out = rows_of(tmp_path / "out/train.parquet"), rows_of(tmp_path / "out/test/asearcher.parquet")
    texts = {row["metadata"]["question"] for row in (*train, *held_out)}
    assert texts == {f"question {n}" for n in range(20)}
    assert len(rows_of(tmp_path / "out/test/hotpotqa.parquet")) == 3
    first = train[0]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert "list of several" in first["messages"][0]["content"]
    assert json.loads(first["tools"]) == TOOL_SCHEMAS
    assert json.loads(first["label"]) == [f"A{first['metadata']['question'].split()[1]}"]


def test_the_same_seed_holds_the_same_out(flashrag: Path, tmp_path: Path) -> None:
    source = tmp_path / "copy.jsonl"
    source.write_text("".join(json.dumps({"question": f"q {n}", "answer": "A"}) + "\n" for n in range(30)))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("--source", source, "--data-dir", flashrag, "--output", tmp_path / name, "--validation", 8, "--seed", seed)
    a, b, c = (rows_of(tmp_path / name / "test/asearcher.parquet") for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(("source", "folder"), [("none.parquet", "."), ("nothing", "nothing")])
def test_a_missing_data_set_is_an_error_with_the_command(
    source: str, folder: str, flashrag: Path, tmp_path: Path
) -> None:
    result = run("--source", tmp_path / source, "--data-dir", flashrag, "--output", tmp_path / "out")
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    place = tmp_path if folder == "." else tmp_path / folder
    assert "hf download inclusionAI/ASearcher-train-data ASearcher-Base-35k.jsonl --repo-type dataset" in told
    assert f"--local-dir {place}" in told
    missing = run("--source", flashrag / "hotpotqa/dev.jsonl", "--data-dir", tmp_path, "--output", tmp_path / "out")
    assert "hf download RUC-NLPIR/FlashRAG_datasets hotpotqa/dev.jsonl" in " ".join(missing.output.split())


def test_a_bad_row_is_found(flashrag: Path, tmp_path: Path) -> None:
    source = tmp_path / "copy.jsonl"
    source.write_text('{"question": "Who?", "answer": "A"}\n{"question": "What?"}\n')
    result = run("--source", source, "--data-dir", flashrag, "--output", tmp_path / "out")
    assert result.exit_code == 1 and "line 2" in result.output and "answers" in result.output


def test_too_few_are_refused(flashrag: Path, tmp_path: Path) -> None:
    source = tmp_path / "copy.jsonl"
    source.write_text('{"question": "Who?", "answer": "A"}\n')
    result = run("--source", source, "--data-dir", flashrag, "--output", tmp_path / "out")
    assert result.exit_code == 1 and "--validation asks for 500" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
