"""A build that is killed goes on where it was, and ends with the store of a build that was not."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slime_search.cli.build_index import app

SCRIPT = Path(__file__).with_name("slow_build.py")


def run(step: int, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(step), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[2], timeout=120)


def contents(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["sq8", "rabitq"])
def test_killed_again_and_again(kind: str, corpus_path: Path, tmp_path: Path) -> None:
    def options(name: str) -> list[object]:
        encoder = ["--retriever_model", "hashing"]
        return ["--corpus_path", corpus_path, *encoder, "--output", tmp_path / name, "--kind", kind]

    whole = run(0, *options("whole"))
    assert whole.returncode == 0, whole.stderr
    assert "the first sentences of passages" in whole.stdout
    # While the vectors' file is made, after its second chunk, and while or after the codes are made.
    for step in (6, 9, 9):
        killed = run(step, *options("killed"))
        assert killed.returncode == -9, killed.stderr
    resumed = run(0, *options("killed"))
    assert resumed.returncode == 0, resumed.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_another_model_or_corpus_is_refused(corpus_path: Path, tmp_path: Path) -> None:
    options = ["--corpus_path", corpus_path, "--output", tmp_path / "store"]
    assert run(8, *options, "--retriever_model", "one").returncode == -9
    refused = CliRunner().invoke(app, [*map(str, options), "--retriever_model", "two"])
    assert refused.exit_code == 1
    assert "retriever_model was 'one' and is 'two'" in refused.output
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("".join(corpus_path.read_text().splitlines(keepends=True)[:5_000]))
    options[1] = shorter
    refused = CliRunner().invoke(app, [*map(str, options), "--retriever_model", "one"])
    assert refused.exit_code == 1
    assert "count was 9000 and is 5000" in refused.output


def test_options_that_miss_or_exclude_each_other(corpus_path: Path, tmp_path: Path) -> None:
    def refusal(*options: object) -> str:
        result = CliRunner().invoke(app, ["--output", str(tmp_path / "s"), *map(str, options)])
        assert result.exit_code == 1
        return result.output

    assert "--retriever_model: is missing" in refusal("--corpus_path", corpus_path)
    assert "leave --corpus_path" in refusal("--corpus_path", corpus_path, "--from-index", corpus_path)
    assert "is no flat FAISS index" in refusal("--from-index", corpus_path)
    assert not (tmp_path / "s").exists()
