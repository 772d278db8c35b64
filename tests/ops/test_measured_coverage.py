"""``prepare-data --audit`` on text whose answers are known, with a real retrieval server."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slime_search.cli.prepare_data import app
from slime_search.data.coverage import Share
from slime_search.data.questions import Question
from slime_search.ops import coverage
from slime_search.ops.coverage import Asked, measure, scan
from tests.retrieval.retrieval_process import Server

PASSAGES = 400
"""Passage n says on which river town n lies."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = (
        {
            "id": str(n),
            "contents": f'"Town {n}"\nTown {n} lies on the river R{n}.{" The Old Bridge is here." * (n == 7)}',
        }
        for n in range(PASSAGES)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def retriever(corpus: Path) -> Iterator[Server]:
    server = Server.of_corpus(corpus, "--port", "0")
    server.wait_until_ready()
    yield server
    server.end()


def questions(*answers: str) -> list[Question]:
    return [Question("nq", str(n), f"Which river is town {n} on?", (answer,)) for n, answer in enumerate(answers)]


# Of town n's question: its river, one that no passage has, a phrase of another passage, and a yes.
ANSWERS = ("R0", "R1", "no such river", "Old Bridge", "yes", "R5", "R6", "r 7")
IN_CORPUS, IN_FIRST = 6, 5


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_a_corpus_is_read_whole_by_any_number_of_processes(
    corpus: Path, processes: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "_PART", 150)
    if packed:
        data = corpus.read_bytes()
        corpus = corpus.with_suffix(".jsonl.gz")
        corpus.write_bytes(gzip.compress(data))
    told: list[tuple[int, int]] = []
    wanted = {"R0", "R149", "R150", "r399", "R400", "The Old Bridge", "old new bridge"}
    found = scan(corpus, wanted, lambda done, total: told.append((done, total)), processes)
    assert found == {"r0", "r149", "r150", "r399", "old bridge"}
    assert told == [(150, 400), (300, 400), (400, 400)]


def test_both_shares_are_the_known_ones(corpus: Path, retriever: Server) -> None:
    sets = {"test nq": questions(*ANSWERS)}
    [found] = measure(sets, corpus, retriever=Asked(f"{retriever.url}/retrieve", topk=3))
    assert (found.corpus, found.by_reasoning) == (Share(IN_CORPUS, len(ANSWERS)), 1)
    assert [question.id for question in found.missing] == ["2", "7"]
    assert found.searched is not None
    assert (found.searched.topk, found.searched.hits) == (3, Share(IN_FIRST, len(ANSWERS)))
    [some] = measure(sets, corpus, retriever=Asked(f"{retriever.url}/retrieve", topk=3, questions=2))
    # Of all over the set: the first and the fifth.
    assert some.searched is not None and some.searched.hits == Share(2, 2)


def test_a_question_that_the_retriever_refuses_finds_nothing(corpus: Path, retriever: Server) -> None:
    asked = [Question("nq", "0", "town " * 5_000, ("R0",)), *questions("R0")]
    [found] = measure({"nq": asked}, corpus, retriever=Asked(f"{retriever.url}/retrieve", topk=3))
    assert found.searched is not None and found.searched.hits == Share(1, 2)


def test_prepare_data_tells_it_for_each_set(corpus: Path, retriever: Server, tmp_path: Path) -> None:
    for name, answers in (("nq/test", ANSWERS), ("bamboogle/test", ("R0",)), ("nq/train", ("gone",))):
        path = tmp_path / f"raw/{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"question": f"{q.text} {name}", "golden_answers": q.answers} for q in questions(*answers)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ("--data-dir", tmp_path / "raw", "--train", "nq", "--test", "nq,bamboogle", "--output", tmp_path / "out")
    audit = ("--audit", "--corpus-path", corpus, "--retriever-url", f"{retriever.url}/retrieve/")
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(option) for option in (*sets, *audit)])
    assert done.exit_code == 0, done.output
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.output.splitlines() if "│" in line]
    told = {cells[0]: cells[1:] for cells in lines if "%" in "".join(cells)}
    assert told["test nq"] == ["8", "1", "75.0% (40.9% to 92.9%)", "62.5% (30.6% to 86.3%)", "8"]
    assert told["test bamboogle"] == ["1", "0", "100.0% (20.7% to 100.0%)", "100.0% (20.7% to 100.0%)", "1"]
    assert told["train nq"] == ["1", "0", "0.0% (0.0% to 79.3%)", "0.0% (0.0% to 79.3%)", "1"]
    assert "test nq: an agent that answers with what its passages say reaches an EM of 0.750 at most" in done.output
    assert "in no passage: Which river is town 2 on? nq/test (no such river)" in done.output


def test_prepare_data_wants_a_corpus_before_anything_is_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--audit", "--output", str(tmp_path / "out"), "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "--corpus-path" in done.output
    assert not (tmp_path / "out").exists()
