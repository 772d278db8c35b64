"""How hard published IVF and HNSW files search: measured where nothing is said, and what is said where it is."""

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.effort import LEAST_RECALL, WANTED_RECALL, Effort, recall_of
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import VectorIndex

KINDS = {
    "IVF64,Flat": "nprobe",
    "IDMap,IVF64,Flat": "nprobe",
    "IVF64,SQ8": "nprobe",
    "PCA32,IVF64,Flat": "nprobe",
    "HNSW8": "ef_search",
    "IDMap2,HNSW8": "ef_search",
    "HNSW8,SQ8": "ef_search",
}


@pytest.fixture(scope="module", params=KINDS)
def saved(
    request: pytest.FixtureRequest, clustered: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A file saved with the least effort, and the option's name."""
    path: Path = tmp_path_factory.mktemp("effort") / "a.index"
    index = faiss.index_factory(clustered.shape[1], request.param, faiss.METRIC_INNER_PRODUCT)
    index.train(clustered)
    index.add_with_ids(clustered, np.arange(len(clustered))) if "IDMap" in request.param else index.add(clustered)
    if KINDS[request.param] == "ef_search":
        faiss.ParameterSpace().set_index_parameter(index, "efSearch", 1)
    faiss.write_index(index, str(path))
    return path, KINDS[request.param]


def effort_of(index: VectorIndex) -> Effort:
    assert index.effort is not None
    return index.effort


def recall(index: VectorIndex, vectors: npt.NDArray[np.float32]) -> float:
    """Of other questions than the measured ones, against a scan of all vectors."""
    questions = vectors[5:400] + np.float32(0.02)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    truth, found = exact.search(questions, 10)[1], index.search(questions, 10).rows
    return float(np.mean([np.isin(best, rows).mean() for rows, best in zip(found, truth, strict=True)]))


def test_without_a_word_enough_is_found(saved: tuple[Path, str], clustered: npt.NDArray[np.float32]) -> None:
    path, setting = saved
    effort = effort_of(open_index(path))
    assert (effort.setting, effort.saved) == (setting, 1)
    assert effort.recall is not None and effort.recall >= WANTED_RECALL and not effort.is_low
    lazy = open_index(path, nprobe=1) if setting == "nprobe" else open_index(path, ef_search=1)
    assert recall(open_index(path), clustered) > recall(lazy, clustered)


def test_what_is_asked_for_is_set_and_measured(saved: tuple[Path, str]) -> None:
    path, setting = saved
    low, high = (
        effort_of(open_index(path, nprobe=value) if setting == "nprobe" else open_index(path, ef_search=value))
        for value in (1, 512)
    )
    assert low.value == 1 and low.recall is not None
    assert low.is_low == (low.recall < LEAST_RECALL)
    assert high.value == (64 if setting == "nprobe" else 512)
    assert high.recall is not None and high.recall >= low.recall


def test_a_setting_of_another_kind_is_refused(saved: tuple[Path, str], flat_file: Path) -> None:
    path, setting = saved
    with pytest.raises(VectorIndexError, match="leave it out"):
        open_index(path, **{"ef_search" if setting == "nprobe" else "nprobe": 4})  # type: ignore[arg-type]
    with pytest.raises(VectorIndexError, match=r"nprobe: .*leave it out"):
        open_index(flat_file, nprobe=4)


def test_other_kinds_have_none(clustered: npt.NDArray[np.float32], flat_file: Path, tmp_path: Path) -> None:
    index = faiss.index_factory(clustered.shape[1], "SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(clustered)
    index.add(clustered[:100])
    faiss.write_index(index, str(tmp_path / "sq.index"))
    assert open_index(tmp_path / "sq.index").effort is None
    assert open_index(flat_file).effort is None


@pytest.mark.parametrize("kind", ["IVF16,PQ32x4", "IDMap2,IVF16,PQ32x4"])
def test_vectors_refine_as_many_candidates_as_it_takes(
    kind: str, clustered: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    codes, refined = (
        built(tmp_path / f"{number}.index", kind + end, clustered) for number, end in enumerate(("", ",RFlat"))
    )
    before, effort = effort_of(open_index(codes)), effort_of(open_index(refined))
    assert (before.loses, before.k_factor) == (True, None)
    assert not effort.loses
    assert effort.k_factor is not None and effort.k_factor > 1
    assert effort.recall is not None and effort.recall >= WANTED_RECALL
    assert recall(open_index(refined), clustered) > recall(open_index(codes), clustered) + 0.05
    assert str(before).endswith("of what its codes hold")
    assert f"k_factor {effort.k_factor}: recall@10" in str(effort)


def test_codes_without_lists_are_refined_as_well(clustered: npt.NDArray[np.float32], tmp_path: Path) -> None:
    path = built(tmp_path / "a.index", "PQ32x4,RFlat", clustered)
    as_saved = faiss.read_index(str(path)).search(clustered[:200], 10)[1]
    exact = faiss.IndexFlatIP(clustered.shape[1])
    exact.add(clustered)
    truth = exact.search(clustered[:200], 10)[1]
    assert recall_of(open_index(path).search(clustered[:200], 10).rows, truth) > recall_of(as_saved, truth) + 0.05


@pytest.mark.parametrize("kind", ["IVF16,Flat", "IVF16,SQ8", "IVF16,SQfp16", "HNSW8", "HNSW8,SQ8"])
def test_vectors_that_are_kept_lose_nothing_to_speak_of(
    kind: str, clustered: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    assert not effort_of(open_index(built(tmp_path / "a.index", kind, clustered))).loses


@pytest.mark.parametrize("kind", ["IVF16,SQ4", "IVF16,RaBitQ"])
def test_codes_of_few_bits_lose(kind: str, clustered: npt.NDArray[np.float32], tmp_path: Path) -> None:
    assert effort_of(open_index(built(tmp_path / "a.index", kind, clustered))).loses


def built(path: Path, kind: str, vectors: npt.NDArray[np.float32]) -> Path:
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(len(vectors))) if "IDMap" in kind else index.add(vectors)
    faiss.write_index(index, str(path))
    return path


def test_a_report_says_what_was_saved_and_what_is_found() -> None:
    assert str(Effort("nprobe", 16, 1, 0.997)) == "nprobe 16 (saved as 1): recall@10 0.997"
    assert str(Effort("ef_search", 16, 16, None)) == "ef_search 16: recall not measured"
