"""The example's own front: ``start_server.sh`` over a corpus."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples/search_r1/local_dense_retriever/start_server.sh"


def start(**variables: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHON": sys.executable} | {name: str(value) for name, value in variables.items()}
    command = [SCRIPT, "--exit-with-parent"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_corpus_is_served_as_the_environment_says(corpus_path: Path) -> None:
    process = start(RETRIEVER_NAME="bm25", CORPUS_PATH=corpus_path, PORT="0")
    assert process.stdout is not None
    assert "(60 passages)" in process.stdout.readline()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_what_is_missing_is_named_with_the_command_that_fetches_it(corpus_path: Path, tmp_path: Path) -> None:
    process = start(CORPUS_PATH=corpus_path, DATA_DIR=tmp_path)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"INDEX_PATH: {tmp_path}/e5_Flat.index does not exist" in stderr
    assert f"download.py --save_path {tmp_path}" in stderr
