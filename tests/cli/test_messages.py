"""What is wrong on a command line is said in one sentence: the field, the value and the fix."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JARGON = re.compile(r"Traceback|Value error|Input should|\[Errno|Settings|should match pattern|ssl:default")

# A command line, the code it ends with, and what its message says.
MISTAKES: list[tuple[str, int, list[str]]] = [
    ("serve-retriever --corpus_path corpus.jsonl --retriever_name bm26", 2, ["--retriever_name = bm26", "'e5'"]),
    ("serve-retriever --corpus_path corpus.jsonl --port 99999", 2, ["--port = 99999", "a number from 0 to 65535"]),
    ("serve-retriever --corpus_path corpus.jsonl --threads x", 2, ["--threads = x", "a number of at least 1"]),
    ("serve-retriever --corpus_path corpus.jsonl --precision fp9", 2, ["--precision = fp9", "'bf16'"]),
    ("serve-retriever --corpus_path corpus.jsonl --device gpu", 1, ["device: 'gpu'", "cuda:0"]),
    ("serve-retriever --corpus_path corpus.jsonl --index_path x.index", 1, ["index_path: x.index", "leave it out"]),
    ("serve-retriever --corpus_path corpus.jsonl --nprobe 3", 1, ["nprobe: 3", "leave it out"]),
    ("serve-retriever --corpus_path corpus.jsonl --precision bf16", 1, ["precision: bf16", "leave it out"]),
    ("serve-retriever --corpus_path no.jsonl.gz", 1, ["no.jsonl.gz: is not gzipped", "download it again"]),
    (
        "serve-retriever --corpus_path corpus.jsonl --retriever_name e5 --index_path x --retriever_model ./nowhere",
        1,
        ["--retriever_model ./nowhere: there is no such folder"],
    ),
    ("serve-searcher --model nowhere --engine-url foo", 2, ["--engine-url = foo", "http://"]),
    ("serve-searcher --model-path ./nowhere", 1, ["--model ./nowhere: there is no such folder"]),
    ("serve-engine --model-path nowhere", 1, ["--model-path nowhere: there is no such folder"]),
    ("serve-engine --model empty", 1, ["--model-path empty: has no config.json"]),
    ("rollout --ask x --engine-url 127.0.0.1:9", 2, ["--engine-url = 127.0.0.1:9", "http://"]),
    ("rollout --ask x --engine-url http://h:port", 2, ["--engine-url = http://h:port", "http://"]),
    ("rollout --ask x --checkpoint corpus.jsonl", 1, ["--checkpoint corpus.jsonl: is a file"]),
    (
        "rollout --ask x --engine-url http://127.0.0.1:9 --prompt-template none.txt",
        1,
        ["--prompt-template none.txt: No such file", "{question}"],
    ),
    ("doctor --engine-url foo", 2, ["--engine-url = foo"]),
    ("prepare-data --retriever-url foo", 2, ["--retriever-url = foo"]),
    ("quickstart --recipe coda --dialect tools", 1, ["--dialect tools", "--recipe coda speaks tags only"]),
    ("quickstart --recipe distill --dialect tags", 1, ["--dialect tags", "--recipe distill speaks tools only"]),
    (
        "build-index --output corpus.jsonl --corpus_path corpus.jsonl --retriever_model empty",
        1,
        ["--output corpus.jsonl: is a file", "name a folder"],
    ),
    ("curves corpus.jsonl", 1, ["corpus.jsonl, line 1", "a phase and a step", "name the folder of a run"]),
    ("view corpus.jsonl --export x.html", 1, ["corpus.jsonl, line 1", "rollout.group: it is missing"]),
    ("view broken.jsonl --export x.html", 1, ["broken.jsonl: its only line is not whole, or not JSON"]),
    ("view none", 1, ["none: does not exist; name a file of rollouts"]),
]


@pytest.mark.parametrize(("line", "code", "said"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_said_with_its_field_value_and_fix(line: str, code: int, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "0", "contents": "a passage"}\n')
    (tmp_path / "no.jsonl.gz").write_text("<html>moved</html>\n")
    (tmp_path / "broken.jsonl").write_text('{"id": ')
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "slime_search.cli", *line.split()],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "400", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert [part for part in said if part not in done.stderr] == [], done.stderr
    assert not JARGON.search(done.stderr), done.stderr
