"""Exact search finds what brute force finds, in the same order."""

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.flat import open_exact
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import Neighbours, Part, Quantization

Floats = npt.NDArray[np.float32]


def brute_force(vectors: Floats, queries: Floats, topk: int) -> Neighbours:
    products = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-products, axis=1, kind="stable")[:, :topk]
    missing = ((0, 0), (0, topk - order.shape[1]))
    scores = np.pad(np.take_along_axis(products, order, 1), missing, constant_values=-np.inf)
    return Neighbours(scores, np.pad(order, missing, constant_values=-1))


def assert_same(found: Neighbours, expected: Neighbours) -> None:
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.rows, expected.rows)


def unit(rng: np.random.Generator, count: int, dimension: int) -> Floats:
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 300),
    dimension=st.integers(1, 12),
    queries=st.integers(0, 5),
    topk=st.integers(1, 400),
    levels=st.integers(1, 4),
    quantization=st.sampled_from(Quantization),
    devices=st.sampled_from([["cpu"], ["cpu"] * 3]),
)
def test_ties_go_by_position(
    seed: int,
    count: int,
    dimension: int,
    queries: int,
    topk: int,
    levels: int,
    quantization: Quantization,
    devices: Sequence[str],
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-levels, levels + 1, (count, dimension)).astype(np.float32)
    asked = rng.integers(-levels, levels + 1, (queries, dimension)).astype(np.float32)
    index = open_exact(vectors, "here", devices=devices, quantization=quantization)
    assert_same(index.search(asked, topk), brute_force(vectors, asked, topk))


@pytest.mark.parametrize("quantization", Quantization)
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_many_blocks(quantization: Quantization, order: str) -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng, 30_000, 32)
    asked = unit(rng, 70, 32)
    if order != "random":
        by_score = np.argsort(vectors @ asked[0])
        vectors = vectors[by_score if order == "rising" else by_score[::-1]].copy()
    index = open_exact(vectors, "here", devices=["cpu", "cpu"], quantization=quantization)
    assert_same(index.search(asked, 10), brute_force(vectors, asked, 10))


@pytest.mark.parametrize("quantization", Quantization)
def test_near_ties_beyond_the_scans_precision(quantization: Quantization) -> None:
    """Thousands of vectors that only float32 can tell apart make the scan look further."""
    rng = np.random.default_rng(1)
    middle = unit(rng, 1, 64)
    vectors = np.concatenate([unit(rng, 2_000, 64), middle + 1e-5 * unit(rng, 3_000, 64)]).astype(np.float32)
    rng.shuffle(vectors)
    index = open_exact(vectors, "here", quantization=quantization)
    assert_same(index.search(middle, 5), brute_force(vectors, middle, 5))


def test_the_file_of_faiss(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors, asked = unit(rng, 5_000, 48), unit(rng, 9, 48)
    flat = faiss.IndexFlatIP(48)
    flat.add(vectors)
    faiss.write_index(flat, str(tmp_path / "e5_Flat.index"))
    index = open_index(tmp_path / "e5_Flat.index")
    assert (index.count, index.dimension) == (5_000, 48)
    found = index.search(asked, 7)
    assert_same(found, Neighbours(*flat.search(asked, 7)))
    parts = [open_index(tmp_path / "e5_Flat.index", part=Part(number, 3)) for number in range(3)]
    assert sum(part.count for part in parts) == 5_000
    merged = [part.search(asked, 7) for part in parts]
    scores = np.concatenate([part.scores for part in merged], axis=1)
    rows = np.concatenate([part.rows for part in merged], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    assert_same(Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)), found)


def test_nan_is_refused() -> None:
    vectors = np.ones((10, 4), np.float32)
    vectors[6, 2] = np.nan
    with pytest.raises(VectorIndexError, match=r"here.*vector 6 holds NaN"):
        open_exact(vectors, "here", quantization=Quantization.BYTES)
    with pytest.raises(VectorIndexError, match="NaN"):
        open_exact(vectors, "here", quantization=Quantization.FP32).search(np.ones((1, 4), np.float32), 3)
    good = open_exact(np.ones((10, 4), np.float32), "here")
    with pytest.raises(ValueError, match=r"\(1, 5\).*\(queries, 4\)"):
        good.search(np.ones((1, 5), np.float32), 3)
    with pytest.raises(ValueError, match="NaN"):
        good.search(vectors[6:7], 3)
