"""``slime-search prepare-data``: FlashRAG's files to training files."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from slime_search.cli.prepare_data import app
from slime_search.data.flashrag import DATA_SETS
from slime_search.data.prompts import write_parquet
from slime_search.data.questions import Question, key_of, read_questions, sift
from slime_search.errors import DataError
from slime_search.rewards.labels import gold_answers

Rows = list[dict[str, Any]]


def row(question: str, *answers: Any, number: int = 0) -> dict[str, Any]:
    return {"id": f"row_{number}", "question": question, "golden_answers": [*answers] or ["yes"], "metadata": {}}


@pytest.fixture
def flashrag(tmp_path: Path) -> Path:
    """Every file that the command reads, with a question of its own in each."""
    folder = tmp_path / "flashrag"
    for data_set in DATA_SETS.values():
        for split in {data_set.train, data_set.test} - {None}:
            write(folder, f"{data_set.name}/{split}", [row(f"{data_set.name} {split} question", "A", "B")])
    return folder


def write(folder: Path, name: str, rows: Rows) -> Path:
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def prepare(flashrag: Path, output: Path, *options: str) -> str:
    result = run("--data-dir", flashrag, "--output", output, *options)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def rows_of(path: Path) -> Rows:
    rows: Rows = pq.read_table(path).to_pylist()
    return rows


def test_the_well_known_mixture(flashrag: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    told = prepare(flashrag, output)
    assert len(list(output.rglob("*.*"))) == 8
    trained = rows_of(output / "train.parquet")
    assert [one["question"] for one in trained] == ["nq train question", "hotpotqa train question"]
    assert {name: rows_of(output / "test" / f"{name}.parquet")[0]["question"] for name in DATA_SETS} == {
        name: f"{name} {data_set.test} question" for name, data_set in DATA_SETS.items()
    }
    assert f"--prompt-data {output}/train.parquet --input-key prompt --label-key reward_model" in told
    assert f"--eval-prompt-data nq {output}/test/nq.parquet triviaqa" in told


def test_search_r1s_columns(flashrag: Path, tmp_path: Path) -> None:
    prepare(flashrag, tmp_path)
    (first, _) = rows_of(tmp_path / "train.parquet")
    (message,) = first["prompt"]
    assert message["role"] == "user"
    assert message["content"].startswith("Answer the given question. You must conduct reasoning inside <think>")
    assert message["content"].endswith("<answer> Beijing </answer>. Question: nq train question?\n")
    assert first["reward_model"] == {"style": "rule", "ground_truth": {"target": ["A", "B"]}}
    assert gold_answers(first["reward_model"]) == first["golden_answers"] == ["A", "B"]
    assert first["extra_info"] == {"split": "train", "index": 0}
    assert first["data_source"] == first["metadata"]["data_source"] == "nq"


def test_the_chat_format(flashrag: Path, tmp_path: Path) -> None:
    told = prepare(flashrag, tmp_path, "--format", "chat")
    (first, _) = rows_of(tmp_path / "train.parquet")
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][1]["content"] == "nq train question?"
    assert json.loads(first["tools"])[0]["type"] == "function"
    assert gold_answers(first["label"]) == ["A", "B"]
    assert "--input-key messages --tool-key tools --label-key label" in told


def test_the_coda_format(flashrag: Path, tmp_path: Path) -> None:
    told = prepare(flashrag, tmp_path, "--format", "coda")
    (first, _) = rows_of(tmp_path / "train.parquet")
    (message,) = first["prompt"]
    assert message["content"].startswith("You are the planner.")
    assert message["content"].endswith("\nQuestion: nq train question?\n")
    assert gold_answers(first["reward_model"]) == ["A", "B"]
    assert "--input-key prompt --label-key reward_model --apply-chat-template" in told


def test_duplicates_and_leaks_are_left_out_and_counted(flashrag: Path, tmp_path: Path) -> None:
    write(
        flashrag,
        "nq/train",
        [row("Who wrote Hamlet"), row("who wrote  the 'Hamlet'?"), row("Is it “nq”, test—question")],
    )
    write(flashrag, "hotpotqa/train", [row("WHO WROTE HAMLET"), row("What is new?"), row("Bamboogle test question?")])
    write(flashrag, "popqa/test", [row("Twice?"), row("twice")])
    write(flashrag, "nq/test", [row('Is it "nq", test-question?')])
    told = prepare(flashrag, tmp_path)
    assert [one["question"] for one in rows_of(tmp_path / "train.parquet")] == ["Who wrote Hamlet", "What is new?"]
    assert len(rows_of(tmp_path / "test" / "popqa.parquet")) == 2
    for numbers in ("nq │ train │ 3 │ 1 │ 1 │ 1", "hotpotqa │ train │ 3 │ 1 │ 1 │ 1", "popqa │ test │ 2 │ 1 │ │ 2"):
        assert numbers in told, told
    assert "2 to train on; 2 are in a test set" in told
    kept = prepare(flashrag, tmp_path, "--keep-leaks")
    assert len(rows_of(tmp_path / "train.parquet")) == 4
    assert "4 to train on; 2 are in a test set (kept)" in kept


def test_other_sets_by_name(flashrag: Path, tmp_path: Path) -> None:
    prepare(flashrag, tmp_path, "--train", "musique, triviaqa", "--test", "bamboogle")
    assert [one["data_source"] for one in rows_of(tmp_path / "train.parquet")] == ["musique", "triviaqa"]
    assert [path.name for path in (tmp_path / "test").iterdir()] == ["bamboogle.parquet"]
    prepare(flashrag, tmp_path / "train only", "--test", "")
    assert [path.name for path in (tmp_path / "train only").iterdir()] == ["train.parquet"]


BAD: dict[str, tuple[str, str]] = {
    "no question": ('{"golden_answers": ["A"]}', "line 2: question: none of question, query"),
    "an empty question": ('{"question": " ", "golden_answers": ["A"]}', "line 2: question: none of"),
    "no answers": ('{"question": "Who?"}', "line 2: answers: none of golden_answers"),
    "answers that are none": (
        '{"question": "Who?", "golden_answers": ["", " "]}',
        "line 2: golden_answers: label: no gold answer",
    ),
    "no JSON": ('{"question": "Who?", "gol', "line 2: not JSON"),
    "a list": ("[1]", "line 2: '[1]' is not a JSON object"),
    "binary": ("\x00\x01", "line 2: not JSON"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_before_anything_is_written(
    flashrag: Path, tmp_path: Path, line: str, complaint: str
) -> None:
    path = flashrag / "hotpotqa" / "train.jsonl"
    path.write_text(json.dumps(row("Fine?")) + "\n" + line + "\n")
    result = run("--data-dir", flashrag, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{path}, line 2: " in result.output and complaint in result.output
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named_with_the_command_that_gets_it(flashrag: Path, tmp_path: Path) -> None:
    (flashrag / "musique" / "dev.jsonl").unlink()
    result = run("--data-dir", flashrag, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{flashrag}/musique/dev.jsonl: not there. Run: hf download RUC-NLPIR/FlashRAG_datasets" in result.output
    assert f"musique/dev.jsonl --repo-type dataset --local-dir {flashrag}" in result.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--train", "squad"), "--train squad: unknown; known: nq, triviaqa, popqa"),
        (("--train", "popqa"), "--train popqa: has no training questions; these have: nq, triviaqa, hotpotqa"),
        (("--test", "NQ"), "--test NQ: unknown"),
    ],
)
def test_a_name_that_is_none(flashrag: Path, tmp_path: Path, options: tuple[str, str], complaint: str) -> None:
    result = run("--data-dir", flashrag, "--output", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert complaint in result.output


def test_nothing_left_to_train_on(flashrag: Path, tmp_path: Path) -> None:
    write(flashrag, "nq/train", [row("nq test question")])
    result = run("--data-dir", flashrag, "--output", tmp_path / "out", "--train", "nq")
    assert result.exit_code == 1
    assert "train: every question of nq is in a test set" in result.output
    (flashrag / "nq" / "train.jsonl").write_text("\n")
    result = run("--data-dir", flashrag, "--output", tmp_path / "out", "--train", "nq")
    assert "nq/train.jsonl: no rows" in result.output


def test_a_folder_that_cannot_be_written(flashrag: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--data-dir", flashrag, "--output", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "name another --output" in result.output


def test_what_real_files_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\r\n{"question": " A? ", "golden_answers": "one", "extra": NaN}\r\n\n'
        b'{"id": 7, "question": "B \\ud800", "golden_answers": [1969, " two ", ""]}'
    )
    assert list(read_questions(path, "nq")) == [
        Question("nq", "0", "A?", ("one",)),
        Question("nq", "7", "B \ufffd", ("1969", "two")),
    ]


def test_files_longer_than_a_group_are_whole(tmp_path: Path) -> None:
    write_parquet(tmp_path / "long.parquet", ({"n": n, "names": [str(n)]} for n in range(25_000)))
    assert [one["n"] for one in rows_of(tmp_path / "long.parquet")] == list(range(25_000))
    assert len(list(tmp_path.iterdir())) == 1


questions = st.lists(st.text("abAB ?!.'’", max_size=6).map(lambda text: Question("s", "0", text, ("x",))), max_size=20)


@given(questions, questions)
def test_nothing_is_lost_and_nothing_comes_twice(training: list[Question], testing: list[Question]) -> None:
    blocked = {key_of(question.text) for question in testing}
    seen: set[str] = set()
    sifted = sift(training, seen, blocked)
    keys = [key_of(question.text) for question in sifted.kept]
    assert len(set(keys)) == len(keys) and seen == set(keys)
    assert seen == {key_of(question.text) for question in training} - blocked
    assert len(sifted.kept) + sifted.duplicates + sifted.leaked == len(training)
    again = sift(training, seen, blocked)
    assert again.kept == [] and again.leaked == sifted.leaked


@given(st.text(max_size=30))
def test_the_key_is_blind_to_spelling(text: str) -> None:
    assert key_of(key_of(text)) == key_of(text)
    assert key_of(f"  {text.upper()} who?! ") == key_of(f"{text.upper()} who")


def test_a_row_without_a_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        list(read_questions(write(tmp_path, "empty", []), "nq"))
