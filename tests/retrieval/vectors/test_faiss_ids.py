"""FAISS files whose vectors were added with ids: a hit is the row of its vector, or the file is refused."""

import json
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.faiss_ids import OwnIds, rows_of_ids
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import VectorIndex

DIMENSION = 16
KINDS = ["IDMap,Flat", "IDMap2,Flat", "IVF4,Flat", "IDMap,IVF4,Flat", "IDMap2,HNSW8", "PCA16,IVF4,Flat"]


def vectors(count: int) -> npt.NDArray[np.float32]:
    found = np.random.default_rng(3).standard_normal((count, DIMENSION)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def save(path: Path, kind: str, ids: list[int] | None, count: int = 60) -> Path:
    index = faiss.index_factory(DIMENSION, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors(count))
    if ids is None:
        index.add(vectors(count))
    else:
        index.add_with_ids(vectors(count), np.array(ids, np.int64))
    faiss.write_index(index, str(path))
    return path


def corpus(path: Path, ids: list[object]) -> Corpus:
    path.write_text("".join(json.dumps({"id": id_, "contents": f"passage {id_}"}) + "\n" for id_ in ids))
    return Corpus.read(path)


def first_hits(index: VectorIndex, count: int = 60) -> list[int]:
    """The best row for every vector, in the order in which they were added."""
    found: list[int] = index.search(vectors(count), 1).rows[:, 0].tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_text", [True, False])
def test_ids_of_the_corpus_find_its_rows(tmp_path: Path, kind: str, as_text: bool) -> None:
    ids = list(range(1, 61))
    shuffled = [*ids[30:], *ids[:30]]
    rows = corpus(tmp_path / "corpus.jsonl", [str(id_) if as_text else id_ for id_ in shuffled])
    index = open_index(save(tmp_path / "a.index", kind, ids), corpus_ids=rows.ids)
    assert first_hits(index) == [shuffled.index(id_) for id_ in ids]
    assert (index.search(vectors(60), 70).rows[:, 60:] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_are_the_rows_positions_stand_for_them(tmp_path: Path, kind: str) -> None:
    ids = [*range(30, 60), *range(30)]
    rows = corpus(tmp_path / "corpus.jsonl", [f"doc-{row}" for row in range(60)])
    assert first_hits(open_index(save(tmp_path / "a.index", kind, ids), corpus_ids=rows.ids)) == ids
    assert first_hits(open_index(save(tmp_path / "a.index", kind, list(range(60))))) == list(range(60))


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,HNSW8"])
def test_ids_in_the_order_of_the_corpus_are_the_corpus_s_even_where_they_could_be_positions(
    tmp_path: Path, kind: str
) -> None:
    ids = [*range(30, 60), *range(30)]
    rows = corpus(tmp_path / "corpus.jsonl", [str(id_) for id_ in ids])
    index = open_index(save(tmp_path / "a.index", kind, ids), corpus_ids=rows.ids)
    assert first_hits(index) == list(range(60))


@pytest.mark.parametrize("kind", ["IVF4,Flat", "HNSW8", "SQ8"])
def test_vectors_without_ids_are_rows_in_their_order(tmp_path: Path, kind: str) -> None:
    rows = corpus(tmp_path / "corpus.jsonl", [str(id_) for id_ in range(60, 0, -1)])
    index = open_index(save(tmp_path / "a.index", kind, None), corpus_ids=rows.ids)
    assert first_hits(index) == list(range(60))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (list(range(1, 61)), "60"),
        ([*range(59), 77], "77"),
        ([*range(59), 2**40], str(2**40)),
    ],
)
def test_ids_that_belong_to_nothing_are_refused_by_name(tmp_path: Path, kind: str, ids: list[int], named: str) -> None:
    path = save(tmp_path / "a.index", kind, ids)
    rows = corpus(tmp_path / "corpus.jsonl", [str(row) for row in range(60)])
    with pytest.raises(VectorIndexError, match=rf"a\.index: .*ids \({named}, …\).*build the index again with add"):
        open_index(path, corpus_ids=rows.ids)
    with pytest.raises(VectorIndexError, match=r"a\.index: .*neither the positions of rows, 0 to 59"):
        open_index(path)


def test_an_id_of_two_vectors_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.index", "IDMap,Flat", [0, 1, 1], count=3)
    with pytest.raises(VectorIndexError, match="the id 1 stands for 2 vectors"):
        open_index(path)


@pytest.mark.parametrize("ids", [["1", "x"], [1.5, 2], [True, 2], [None, 1], [str(2**70), "1"], [[1], "2"]])
def test_a_corpus_with_other_ids_has_none(tmp_path: Path, ids: list[object]) -> None:
    assert corpus(tmp_path / "corpus.jsonl", ids).ids() is None


@given(st.lists(st.integers(0, 2**40), unique=True, min_size=1, max_size=30), st.randoms())
def test_whatever_the_ids_a_vector_s_row_is_the_one_that_carries_its_id(ids: list[int], random: object) -> None:
    shuffled = sorted(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    of_rows = np.array(shuffled, np.int64)
    if sorted(ids) == list(range(len(ids))):
        return
    rows = rows_of_ids(Path("a.index"), OwnIds(np.array(ids, np.int64), True), lambda: of_rows)
    assert rows is not None
    assert rows(np.array([*ids, -1])).tolist() == [*(shuffled.index(id_) for id_ in ids), -1]
