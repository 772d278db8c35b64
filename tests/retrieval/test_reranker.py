"""Reranking, with a real cross-encoder of random weights called by hand beside it."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.encoders.cross_encoder import CrossEncoderError, load_cross_encoder
from slime_search.retrieval.retriever import Hit, RerankedRetriever
from tests.support.encoders import save_bert

TEXTS = [
    f"{color} {animal}" + " in the north" * (number % 3)
    for number, (color, animal) in enumerate(
        (color, animal) for color in ("red", "blue", "grey") for animal in ("fox", "hen", "dog", "owl")
    )
]
PAIRS = [(query, text) for query in ("red hen?", "which of them lives in the north?") for text in TEXTS]


def save_cross_encoder(folder: Path, *, labels: int = 1) -> Path:
    save_bert(folder)
    torch.manual_seed(1)
    # The usual small weights would give all pairs nearly the same score.
    config = BertConfig.from_pretrained(folder, num_labels=labels, initializer_range=0.3)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rows = [
        {"title": text.split()[0], "text": text} if number % 2 else {"contents": text}
        for number, text in enumerate(TEXTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus.read(path)


@torch.inference_mode()
def by_hand(folder: Path, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = [model(**tokenizer(*pair, truncation=True, return_tensors="pt")).logits[0, 0] for pair in pairs]
    return np.asarray(torch.stack(logits), dtype=np.float32)


def test_scores_are_the_logits_of_the_model(folder: Path) -> None:
    encoder = load_cross_encoder(str(folder), precision="fp32", batch_size=5)
    scores = encoder.score(PAIRS)
    np.testing.assert_allclose(scores, by_hand(folder, PAIRS), atol=1e-4)
    assert scores.std() > 0.1
    assert encoder.score([]).shape == (0,)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_half_precision_still_tells_passages_apart(folder: Path, precision: str) -> None:
    pairs = [(f"{query} {number}", text) for query, text in PAIRS for number in range(8)]
    scores = load_cross_encoder(str(folder), precision=precision).score(pairs)
    expected = load_cross_encoder(str(folder), precision="fp32").score(pairs)
    assert np.corrcoef(scores, expected)[0, 1] > 0.99
    assert len(set(scores.tolist())) >= len(set(expected.tolist())) - 2


def test_several_threads_may_score_at_once(folder: Path) -> None:
    encoder = load_cross_encoder(str(folder), precision="fp32", batch_size=4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(encoder.score, [PAIRS] * 32))
    for scores in answers:
        np.testing.assert_array_equal(scores, answers[0])


def test_candidates_come_in_the_order_of_the_cross_encoder(folder: Path, corpus: Corpus) -> None:
    texts = list(corpus.texts())
    reranked = RerankedRetriever(
        Bm25Index.build(texts), corpus, load_cross_encoder(str(folder), precision="fp32"), depth=5
    )
    found = reranked.search(["red hen", "unknown", "fox"], 3)
    for query, candidates, hits in zip(["red hen", "fox"], [5, 3], [found[0], found[2]], strict=True):
        rows = [hit.row_index for hit in Bm25Index.build(texts).search([query], candidates)[0]]
        scores = by_hand(folder, [(query, texts[row]) for row in rows])
        assert [hit.row_index for hit in hits] == [rows[place] for place in np.argsort(-scores)[:3]]
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:3], abs=1e-4)
    assert found[1] == []


class CountsLetters:
    """Scores by letters that query and passage share, so that ties are common."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        return np.array([len(set(query) & set(text)) for query, text in pairs], np.float32)


@given(topk=st.integers(1, 15), depth=st.integers(1, 15), queries=st.lists(st.sampled_from(["red", "fox owl", "?"])))
def test_ties_come_in_corpus_order_and_none_is_lost(corpus: Corpus, topk: int, depth: int, queries: list[str]) -> None:
    texts = list(corpus.texts())
    index = Bm25Index.build(texts)
    found = RerankedRetriever(index, corpus, CountsLetters(), depth=depth).search(queries, topk)
    expected = []
    for query in queries:
        [candidates] = index.search([query], max(topk, depth))
        hits = [Hit(row, float(len(set(query) & set(texts[row])))) for row, _ in candidates]
        expected.append(sorted(hits, key=lambda hit: (-hit.score, hit.row_index))[:topk])
    assert found == expected


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrossEncoderError, match=r"reranker: '.*absent' can't be loaded"):
        load_cross_encoder(str(tmp_path / "absent"))


def test_a_model_without_one_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrossEncoderError, match="3 labels and not one score"):
        load_cross_encoder(str(save_cross_encoder(tmp_path, labels=3)))


@pytest.mark.parametrize(("option", "value"), [("precision", "fp12"), ("device", "cuda:99")])
def test_an_option_that_can_not_be_had_is_named(folder: Path, option: str, value: str) -> None:
    with pytest.raises(CrossEncoderError, match=value):
        load_cross_encoder(str(folder), **{option: value})
