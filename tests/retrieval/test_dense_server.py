"""Serving with an encoder: a real process over a FAISS file, and what it refuses to serve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest
from rich.progress import Progress
from transformers import BertConfig, BertForSequenceClassification

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.collection import RetrieverName, RetrieverSettings, load_collection
from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.encoders.loading import load_encoder
from slime_search.retrieval.errors import SetupError
from slime_search.retrieval.retriever import Hit
from tests.retrieval.bm25_reference import as_served
from tests.retrieval.retrieval_process import Server
from tests.support.encoders import SIZES, save_bert

QUESTIONS = ["red fox", "a hen in the barn", "who?"]


class Dense(NamedTuple):
    encoder: Path
    index: Path
    passages: Vectors

    def settings(self, corpus_path: Path, **others: Any) -> RetrieverSettings:
        settings = {"index_path": self.index, "model": str(self.encoder), "precision": "fp32"}
        return RetrieverSettings(corpus_path=corpus_path, name=RetrieverName.E5, **(settings | others))


@pytest.fixture(scope="module")
def dense(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dense:
    folder = tmp_path_factory.mktemp("dense")
    encoder = save_bert(folder / "encoder")
    passages = load_encoder(str(encoder), family="e5", precision="fp32").encode_passages(texts)
    return Dense(encoder, save_flat(folder / "flat.index", passages), passages)


def save_flat(path: Path, vectors: Vectors) -> Path:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))
    return path


def closest(dense: Dense, question: str, topk: int) -> list[Hit]:
    query = load_encoder(str(dense.encoder), family="e5", precision="fp32").encode_queries([question])[0]
    scores = dense.passages @ query
    best = np.argsort(-scores, kind="stable")[:topk]
    return [Hit(int(row), float(scores[row])) for row in best]


def test_answers_are_the_closest_passages(
    dense: Dense, corpus_path: Path, rows: list[dict[str, Any]], start_server: Callable[..., Server]
) -> None:
    options = ("--retriever_name", "e5", "--retriever_model", str(dense.encoder), "--index_path", str(dense.index))
    server = start_server(corpus_path, *options, "--precision", "fp32", "--port", "0")
    server.wait_until_ready()
    _, answer = server.request("/retrieve", {"queries": QUESTIONS, "topk": 4, "return_scores": True})
    for question, found in zip(QUESTIONS, answer["result"], strict=True):
        expected = closest(dense, question, 4)
        assert [item["document"] for item in found] == [rows[hit.row_index] for hit in expected]
        assert [item["score"] for item in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    _, alone = server.request("/retrieve", {"queries": QUESTIONS[1], "topk": 4})
    assert alone["result"] == [[item["document"] for item in answer["result"][1]]]
    _, everything = server.request("/retrieve", {"queries": ["red"], "topk": 1000})
    assert len(everything["result"][0]) == len(rows)


def test_a_hybrid_ranks_by_both(dense: Dense, corpus_path: Path, texts: list[str]) -> None:
    words = Bm25Index.build(texts, as_served)
    retriever = load_collection(dense.settings(corpus_path, hybrid=True), Progress(disable=True)).retriever
    for question, found in zip(QUESTIONS, retriever.search(QUESTIONS, 5), strict=True):
        shares: dict[int, float] = {}
        for ranking in (closest(dense, question, 100), words.search([question], 100)[0]):
            for rank, hit in enumerate(ranking, start=1):
                shares[hit.row_index] = shares.get(hit.row_index, 0) + 1 / (60 + rank)
        best = sorted(shares, key=lambda row: (-shares[row], row))[:5]
        assert [hit.row_index for hit in found] == best


def test_a_reranker_has_the_last_word(dense: Dense, corpus_path: Path, tmp_path: Path) -> None:
    config = BertConfig.from_pretrained(dense.encoder, num_labels=1, **SIZES)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((dense.encoder / file).read_bytes())
    settings = dense.settings(corpus_path, reranker=str(tmp_path), rerank_depth=10)
    (found,) = load_collection(settings, Progress(disable=True)).retriever.search(["red fox"], 10)
    candidates = closest(dense, "red fox", 10)
    assert {hit.row_index for hit in found} == {hit.row_index for hit in candidates}
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert scores != pytest.approx([hit.score for hit in candidates], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("fewer vectors", ["59 vectors", "60 passages", "corpus.jsonl", "name the corpus"]),
        ("another width", ["vectors of 16", "vectors of 32", "retriever_model", "name the model"]),
        ("no index", ["index_path", "needs it"]),
        ("cut short", ["bytes", "download"]),
        ("no model", ["retriever_model", "can't be loaded"]),
    ],
)
def test_what_does_not_fit_is_refused(
    dense: Dense, corpus_path: Path, tmp_path: Path, change: str, words: list[str]
) -> None:
    index = tmp_path / "flat.index"
    others: dict[str, Any] = {"index_path": index}
    match change:
        case "fewer vectors":
            save_flat(index, dense.passages[:-1])
        case "another width":
            save_flat(index, np.ascontiguousarray(dense.passages[:, :16]))
        case "cut short":
            index.write_bytes(dense.index.read_bytes()[:-100])
        case "no index":
            others = {"index_path": None}
        case "no model":
            others = {"model": str(tmp_path)}
    with pytest.raises(SetupError) as caught:
        load_collection(dense.settings(corpus_path, **others), Progress(disable=True))
    assert [word for word in words if word not in str(caught.value)] == []
