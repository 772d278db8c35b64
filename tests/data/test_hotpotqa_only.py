"""``slime-search prepare-data hotpotqa-only``: HotpotQA's questions, and a corpus and index of its own paragraphs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from slime_search.cli.prepare_data import app
from slime_search.data.hotpotqa_corpus import Paragraphs, paragraphs_of, write_corpus
from slime_search.errors import DataError
from slime_search.retrieval.encoders.loading import load_encoder
from tests.support.encoders import save_bert
from tests.support.loopback import LoopbackServer

Context = dict[str, list[str]]
EMMA = ("Emma", ["Emma is a novel.", " It is by  Jane Austen."])
JANE = ("Jane Austen", ["Jane Austen was born in Steventon."])
BATH = ("Bath", ["Bath is a city."])


def row(question: str, answer: str, *paragraphs: tuple[str, list[str]]) -> dict[str, Any]:
    context = {"title": [title for title, _ in paragraphs], "sentences": [lines for _, lines in paragraphs]}
    return {"id": question, "question": question, "golden_answers": [answer], "metadata": {"context": context}}


SPLITS = {
    "train": [row("Where was Emma's author born?", "Steventon", EMMA, JANE), row("Is Bath a city?", "yes", BATH, EMMA)],
    "dev": [row("Who wrote Emma?", "Jane Austen", JANE, ("Emma", ["Emma is a film."]), ("Nothing", ["", " "]))],
}


def write(folder: Path, splits: dict[str, list[dict[str, Any]]]) -> Path:
    (folder / "hotpotqa").mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / "hotpotqa" / f"{split}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["hotpotqa-only", *map(str, arguments)])


def corpus_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everything_from_files(tmp_path: Path) -> None:
    output, encoder = tmp_path / "out", save_bert(tmp_path / "encoder")
    options = ("--retriever-name", "e5", "--retriever-model", encoder)
    result = run("--data-dir", write(tmp_path / "flashrag", SPLITS), "--output", output, *options)
    assert result.exit_code == 0, result.output
    train, test = (pq.read_table(output / name).to_pylist() for name in ("train.parquet", "test/hotpotqa.parquet"))
    assert [one["question"] for one in train] == ["Where was Emma's author born?", "Is Bath a city?"]
    assert test[0]["reward_model"]["ground_truth"]["target"] == ["Jane Austen"]
    assert test[0]["prompt"][0]["content"].endswith("Question: Who wrote Emma?\n")
    corpus = corpus_of(output / "corpus.jsonl")
    assert corpus == [
        {"id": "0", "contents": '"Emma"\nEmma is a novel. It is by Jane Austen.'},
        {"id": "1", "contents": '"Jane Austen"\nJane Austen was born in Steventon.'},
        {"id": "2", "contents": '"Bath"\nBath is a city.'},
        {"id": "3", "contents": '"Emma"\nEmma is a film.'},
    ]
    index = faiss.read_index(str(output / "faiss.index"))
    assert (index.ntotal, index.metric_type) == (4, faiss.METRIC_INNER_PRODUCT)
    passages = load_encoder(str(encoder), family="e5").encode_passages([one["contents"] for one in corpus])
    assert index.search(passages, 1)[1][:, 0].tolist() == [0, 1, 2, 3]
    assert sorted(path.name for path in output.iterdir() if "offsets" not in path.name) == [
        "corpus.jsonl",
        "faiss.index",
        "test",
        "train.parquet",
    ]
    told = " ".join(result.output.split())
    assert "2 questions to train on" in told and "1 to test on, 4 paragraphs (6 with repeats)" in told
    assert f"--retriever_name e5 --retriever_model {encoder} --index_path {output}/faiss.index" in told


def test_what_it_says_to_serve_is_served(tmp_path: Path) -> None:
    result = run("--data-dir", write(tmp_path, SPLITS), "--output", tmp_path / "out", "--no-index")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / "faiss.index").exists()
    (command,) = [line.strip() for line in result.output.splitlines() if "serve-retriever" in line]
    arguments = command.split()[1:]
    assert arguments[-2:] == ["--retriever_name", "bm25"]
    asks = (
        "import sys, threading, urllib.request, json\n"
        "from slime_search.cli.main import app\n"
        f"sys.argv = ['slime-search', *{arguments!r}, '--port', '0', '--exit-with-parent']\n"
        "app()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", asks], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        assert "(4 passages)" in server.stdout.readline()
        server.stdin.close()
        assert server.wait(30) == 0


def test_a_test_question_is_not_trained_on(tmp_path: Path) -> None:
    splits = {**SPLITS, "train": [*SPLITS["train"], row("who wrote 'Emma'", "Jane Austen", EMMA)]}
    output = tmp_path / "out"
    assert run("--data-dir", write(tmp_path, splits), "--output", output, "--no-index").exit_code == 0
    assert len(pq.read_table(output / "train.parquet")) == 2
    assert run("--data-dir", tmp_path, "--output", output, "--no-index", "--keep-leaks").exit_code == 0
    assert len(pq.read_table(output / "train.parquet")) == 3


BAD = {
    "no context": ({"type": "bridge"}, "metadata.context = None"),
    "no metadata": (None, "metadata.context = None"),
    "a title too many": ({"context": {"title": ["a", "b"], "sentences": [["c"]]}}, "as many titles as"),
    "text for sentences": ({"context": {"title": ["a"], "sentences": ["c"]}}, "['a', 'c'] is not a title with its"),
}


@pytest.mark.parametrize(("metadata", "complaint"), BAD.values(), ids=BAD)
def test_a_row_without_its_paragraphs_is_named(tmp_path: Path, metadata: Any, complaint: str) -> None:
    splits = {**SPLITS, "dev": [*SPLITS["dev"], {**row("Why?", "so"), "metadata": metadata}]}
    result = run("--data-dir", write(tmp_path, splits), "--output", tmp_path / "out", "--no-index")
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert f"{tmp_path}/hotpotqa/dev.jsonl, line 2: " in told and complaint in told
    assert not (tmp_path / "out" / "corpus.jsonl").exists()


def test_an_encoder_that_is_none_is_named(tmp_path: Path) -> None:
    options = ("--data-dir", write(tmp_path, SPLITS), "--output", tmp_path / "out", "--retriever-model", tmp_path)
    result = run(*options)
    assert result.exit_code == 1
    assert "retriever_model: " in result.output
    assert not (tmp_path / "out" / "faiss.index").exists()


def test_odd_text_is_kept_readable(tmp_path: Path) -> None:
    odd = row("?", "a", ("Kö\ud83dln\n", ["a\tb", " \u2028c "]))
    (tmp_path / "odd.jsonl").write_text(json.dumps(odd) + "\n\n")
    assert list(paragraphs_of(tmp_path / "odd.jsonl")) == [("Kö\ufffdln", "a b c")]
    sizes: list[int] = []
    assert write_corpus([tmp_path / "odd.jsonl"], tmp_path / "corpus.jsonl", sizes.append) == Paragraphs(1, 1)
    assert sum(sizes) == (tmp_path / "odd.jsonl").stat().st_size
    with pytest.raises(DataError, match="not JSON"):
        (tmp_path / "cut.jsonl").write_text('{"metadata": ')
        list(paragraphs_of(tmp_path / "cut.jsonl"))


class Hub(LoopbackServer):
    """The two files, under FlashRAG's name."""

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/datasets/RUC-NLPIR/FlashRAG_datasets/resolve/main/hotpotqa/{split}.jsonl", self._file)]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        body = "".join(f"{json.dumps(one)}\n" for one in SPLITS[request.match_info["split"]]).encode()
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        return web.Response(body=body, headers={"ETag": etag, "X-Repo-Commit": "0123456789abcdef" * 2 + "01234567"})


def test_everything_from_the_hub(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slime_search.cli", "prepare-data", "hotpotqa-only", "--no-index"]
    with Hub() as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        options = ["--output", str(tmp_path / "out")]
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(corpus_of(tmp_path / "out" / "corpus.jsonl")) == 4
