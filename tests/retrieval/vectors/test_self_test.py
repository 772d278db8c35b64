"""The self-test that ends a build asks what its user asks, where that is told."""

import json
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from slime_search.cli.build_index import app
from slime_search.retrieval.vectors.manifest import Manifest, SelfTest
from tests.support.encoders import SIZES, save_bert

pytest.importorskip("sentence_transformers", reason="needs the extra: retrieval")

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"contents": f"title {n}\n{n * 31} red foxes"}) + "\n" for n in range(40)))
    return path


def run(code: int, *options: object) -> str:
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def self_test(store: Path) -> SelfTest:
    test = Manifest.read(store).self_test
    assert test is not None
    return test


def test_a_store_is_tested_with_the_questions_of_a_file_and_anew_with_others(
    corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    lines, rows = tmp_path / "mine.txt", tmp_path / "mine.jsonl"
    lines.write_text("what is red?\n\nfoxes\nwho?\n")
    rows.write_text("".join(json.dumps({"question": f"title {n}?", "golden_answers": ["x"]}) + "\n" for n in range(7)))
    model = ("--retriever_model", encoder, "--retriever_name", "e5")
    build = ("--corpus_path", corpus, *model, "--output", tmp_path / "s")
    assert "3 queries: questions of mine.txt" in run(0, *build, "--self-test-queries", lines)
    kept = self_test(tmp_path / "s")
    assert (kept.queries, kept.made_from, kept.recall) == (3, "questions of mine.txt", {1: 1.0, 3: 1.0, 10: 1.0})
    # The same command without them leaves the complete store as it is.
    run(0, *build)
    assert self_test(tmp_path / "s") == kept
    assert "7 queries: questions of mine.jsonl" in run(0, *build, "--self_test_queries", rows)
    assert self_test(tmp_path / "s").queries == 7


def test_a_converted_index_needs_its_encoder_for_them(encoder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("".join(f"what is {number}?\n" for number in range(1_200)))
    vectors = np.random.default_rng(0).standard_normal((50, SIZES["hidden_size"])).astype(np.float32)
    build = ("--from-index", flat(tmp_path / "flat.index", vectors), "--output", tmp_path / "s")
    asked = ("--self-test-queries", lines)
    assert "--retriever_model" in run(1, *build, *asked)
    assert not (tmp_path / "s").exists()
    run(0, *build, *asked, "--retriever_model", encoder, "--retriever_name", "e5")
    kept = self_test(tmp_path / "s")
    assert (kept.queries, kept.made_from) == (500, "questions of mine.txt")
    assert Manifest.read(tmp_path / "s").source.retriever_model is None
    # Without questions the encoder has nothing to do.
    assert "leave --corpus_path and --retriever_model out" in run(1, *build, "--retriever_model", encoder)


def test_another_encoder_is_refused(encoder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("who?\n")
    vectors = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    build = ("--from-index", flat(tmp_path / "flat.index", vectors), "--output", tmp_path / "s")
    said = run(1, *build, "--self-test-queries", lines, "--retriever_model", encoder, "--retriever_name", "e5")
    assert f"makes vectors of {SIZES['hidden_size']} numbers" in said and "holds vectors of 16" in said


@pytest.mark.parametrize(("name", "content"), [("none.txt", "\n"), ("missing.txt", None), ("mine.csv", "a,b\n")])
def test_a_file_that_asks_nothing_is_refused(tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    assert name in run(1, "--output", tmp_path / "s", "--self-test-queries", path)


def flat(path: Path, vectors: Floats) -> Path:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))
    return path
