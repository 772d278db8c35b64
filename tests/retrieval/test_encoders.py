"""Encoders by family, against the same model called by hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoTokenizer, BertModel, DPRContextEncoder, DPRQuestionEncoder

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.encoders.loading import EncoderError, load_encoder
from slime_search.retrieval.encoders.precision import Precision, dtype_for
from tests.support.encoders import save_bert, save_dpr

QUERIES = ["who wrote emma?", "x", "a very long question about rivers and towns in the north of an island", "emma"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@torch.inference_mode()
def by_hand(folder: Path, texts: list[str], pooling: str, normalize: bool) -> Vectors:
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in texts:
        hidden = model(**tokenizer(text, truncation=True, return_tensors="pt")).last_hidden_state[0]
        vectors.append(hidden.mean(0) if pooling == "mean" else hidden[0])
    found = torch.stack(vectors)
    return np.asarray(torch.nn.functional.normalize(found, dim=1) if normalize else found)


@pytest.mark.parametrize(
    ("family", "query_prefix", "passage_prefix", "pooling", "normalize"),
    [
        ("e5", "query: ", "passage: ", "mean", True),
        ("bge", "Represent this sentence for searching relevant passages: ", "", "cls", True),
        ("contriever", "", "", "mean", False),
    ],
)
def test_family_settles_prefix_pooling_and_length(
    bert: Path, family: str, query_prefix: str, passage_prefix: str, pooling: str, normalize: bool
) -> None:
    encoder = load_encoder(str(bert), family=family, precision="fp32", batch_size=3)
    for encode, prefix in ((encoder.encode_queries, query_prefix), (encoder.encode_passages, passage_prefix)):
        expected = by_hand(bert, [prefix + text for text in QUERIES], pooling, normalize)
        np.testing.assert_allclose(encode(QUERIES), expected, atol=1e-5)
    assert encoder.dimension == 32


@pytest.mark.parametrize("of_passages", [False, True])
def test_dpr_is_what_transformers_pools(tmp_path: Path, of_passages: bool) -> None:
    folder = save_dpr(tmp_path, of_passages=of_passages)
    encoder = load_encoder(str(folder), family="dpr", precision="fp32")
    model = (DPRContextEncoder if of_passages else DPRQuestionEncoder).from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        expected = [model(**tokenizer(text, truncation=True, return_tensors="pt")).pooler_output[0] for text in QUERIES]
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), np.stack(expected), atol=1e-5)


def test_auto_takes_the_models_own_pooling_and_prompts(bert: Path, tmp_path: Path) -> None:
    transformer = Transformer(str(bert))
    own = SentenceTransformer(
        modules=[transformer, Pooling(32, pooling_mode="cls")],
        prompts={"query": "query: ", "passage": "passage: "},
        device="cpu",
    )
    own.save(str(tmp_path))
    encoder = load_encoder(str(tmp_path), precision="fp32")
    expected = by_hand(bert, ["query: " + text for text in QUERIES], "cls", normalize=False)
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), expected, atol=1e-5)
    expected = by_hand(bert, ["passage: " + text for text in QUERIES], "cls", normalize=False)
    np.testing.assert_allclose(encoder.encode_passages(QUERIES), expected, atol=1e-5)


def test_bf16_keeps_lengths_exact_and_directions_close(bert: Path) -> None:
    exact = load_encoder(str(bert), family="e5", precision="fp32").encode_queries(QUERIES)
    close = load_encoder(str(bert), family="e5", precision="bf16").encode_queries(QUERIES)
    assert close.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(close, axis=1), 1, atol=1e-6)
    assert ((exact * close).sum(1) > 0.999).all()
    assert (exact != close).any()


def test_auto_precision_is_one_that_this_machine_has() -> None:
    assert dtype_for(Precision.AUTO, "cpu") in (torch.float32, torch.bfloat16)
    assert dtype_for(Precision.AUTO, "cuda:0") == torch.float16


def test_threads_share_an_encoder(bert: Path) -> None:
    encoder = load_encoder(str(bert), family="e5", precision="fp32")
    batches = [[f"{i} " + "word " * (i * j % 9) for j in range(5)] for i in range(40)]
    expected = [encoder.encode_queries(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(encoder.encode_queries, batches))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_no_texts_make_no_vectors(bert: Path) -> None:
    assert load_encoder(str(bert), family="e5").encode_queries([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "contrever"}, ["retriever_name", "'contrever'", "did you mean 'contriever'"]),
        ({"precision": "int3"}, ["precision", "'int3'", "bf16"]),
        ({"device": "cuda:99"}, ["device", "'cuda:99'", "cpu"]),
    ],
)
def test_a_wrong_option_is_named(bert: Path, options: dict[str, str], words: list[str]) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder(str(bert), **options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("family", ["e5", "auto"])
def test_a_folder_without_a_model_is_named(tmp_path: Path, family: str) -> None:
    with pytest.raises(EncoderError, match=r"retriever_model: .*name a folder"):
        load_encoder(str(tmp_path), family=family)
