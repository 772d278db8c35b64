"""How hard an approximate FAISS index searches: ``nprobe`` and ``efSearch``, chosen by what they find.

Files are published with whatever these settings were when they were saved, often FAISS's defaults (``nprobe`` 1,
``efSearch`` 16), which miss many neighbours. The recall is measured on the index's own vectors with noise, against a
search of everything that it holds. Where vectors refine what codes find, so many candidates are refined as it takes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.faiss_ids import inner_index

WANTED_RECALL = 0.98
"""The least effort that finds this share of the best 10 is chosen."""
LEAST_RECALL = 0.95
"""Less than that is something to be told of."""
_DEPTH = 10
_QUERIES = 64
_MOST_EF = 1_024
_MOST_K_FACTOR = 64
_COSINE = 0.62
"""As near as questions were to their best passages, and lists and graphs as hard to find them by: see ``near``."""
_EXACT_NUMBERS = 1 << 35
"""A search of all vectors of an HNSW index multiplies so many numbers a query at most; more take minutes."""
_COSINE_OF_CODES = 0.4
"""What PQ's codes give back lies where they are found best: on the text of ``near``, IVF,PQ32 at 4 of 128 lists found
.83 of what all lists find for questions, .98 for vectors of its codes at 0.62, and .86 at 0.4."""
MADE_FROM = f"vectors with noise, cosine {_COSINE} to the vector"


class Effort(NamedTuple):
    """The setting in force, and what it finds."""

    setting: str
    """``nprobe`` or ``ef_search``, as the option is called."""
    value: int
    saved: int
    """The file's own."""
    recall: float | None
    """The share of the 10 best of an exhaustive search that are found; None where that can't be made."""
    loses: bool = False
    """Whether vectors are held as codes that lose much, such as PQ's, of which the exhaustive search was, too."""
    k_factor: int | None = None
    """Candidates a passage that are scored from their vectors, of an index that refines."""

    def __str__(self) -> str:
        found = "recall not measured" if self.recall is None else f"recall@{_DEPTH} {self.recall:.3f}"
        said = f"{self.setting} {self.value}" + (f" (saved as {self.saved})" if self.value != self.saved else "")
        said += "" if self.k_factor is None else f", k_factor {self.k_factor}"
        return f"{said}: {found}" + (" of what its codes hold" if self.loses else "")

    @property
    def is_low(self) -> bool:
        """Whether too little is found."""
        return self.recall is not None and self.recall < LEAST_RECALL


def set_effort(index: Any, *, nprobe: int | None = None, ef_search: int | None = None) -> Effort | None:
    """Sets what is asked for, or else the least that finds enough; None where an index has no such setting.

    Raises:
        VectorIndexError: the index has no setting of the name that is asked for.
    """
    knob = _knob_of(inner_index(index))
    asked = {"nprobe": nprobe, "ef_search": ef_search}
    for name, value in asked.items():
        if value is not None and (knob is None or knob.name != name):
            kind, found = "IVF" if name == "nprobe" else "HNSW", type(inner_index(index)).__name__
            raise VectorIndexError(
                f"{name}: {value} is for {kind} indexes, and this is FAISS's {found}", "leave it out"
            )
    refined = _refined(index)
    if knob is None:
        if refined is not None and index.ntotal:
            _refine_enough(refined, None, None)
        return None
    saved = knob.value
    value, recall = _chosen(knob, asked[knob.name])
    knob.set(value)
    if refined is None:
        return Effort(knob.name, value, saved, recall, knob.loses)
    recall = _refine_enough(refined, knob, asked[knob.name])
    return Effort(knob.name, knob.value, saved, recall, k_factor=int(refined.k_factor))


def near(vectors: Vectors, cosine: float = _COSINE) -> Vectors:
    """Queries for a self-test: each vector with noise, at a cosine to it, and of its length.

    With all-MiniLM-L6-v2, 12,000 entries of dictionaries, and 1,000 sentences and definitions as questions, the best
    passage of a question had a cosine of 0.60 and 0.52 (medians). Of a question's best 10, IVF at 8 of 245 lists found
    .68 and .71, of these queries' .68 (.71 at a cosine of 0.75); HNSW32 at efSearch 16 .91 and .94, of these .91 (.96).
    One-bit codes find less of these queries' than of questions'.
    """
    noise = np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    noise *= np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(cosine * vectors + np.sqrt(1 - cosine**2, dtype=np.float32) * noise, np.float32)


def recall_of(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """The share of ``truth`` that is in ``found``, both of shape (queries, k), on average."""
    hits = [np.isin(best, rows).mean() for rows, best in zip(found, truth, strict=True)]
    return round(float(np.mean(hits)), 4)


class _Ivf:
    """The lists of an IVF index that are searched."""

    name = "nprobe"

    def __init__(self, index: Any) -> None:
        self._index = index
        self.loses = not isinstance(index, faiss.IndexIVFFlat) and not _is_near_scalar(index)
        self.most = int(index.nlist)

    @property
    def value(self) -> int:
        return int(self._index.nprobe)

    def set(self, value: int) -> None:
        self._index.nprobe = value

    def search(self, queries: Vectors, value: int) -> npt.NDArray[np.int64]:
        effort = faiss.SearchParametersIVF(nprobe=value)  # type: ignore[call-arg]
        rows: npt.NDArray[np.int64] = self._index.search(queries, _DEPTH, params=effort)[1]
        return rows

    def truth(self, queries: Vectors) -> npt.NDArray[np.int64]:
        return self.search(queries, self.most)

    def sample(self, how_many: int) -> Vectors:
        sizes = np.array([self._index.invlists.list_size(number) for number in range(self.most)])
        ends = sizes.cumsum()
        vectors = np.empty((how_many, self._index.d), np.float32)
        for vector, position in zip(vectors, np.linspace(0, ends[-1] - 1, how_many).astype(int), strict=True):
            number = int(np.searchsorted(ends, position, side="right"))
            offset = int(position - (ends[number] - sizes[number]))
            self._index.reconstruct_from_offset(number, offset, faiss.swig_ptr(vector))
        return vectors


class _Hnsw:
    """The candidates that a walk through an HNSW graph keeps."""

    name = "ef_search"

    def __init__(self, index: Any) -> None:
        self._index = index
        self._storage = faiss.downcast_index(index.storage)
        self.loses = not isinstance(self._storage, faiss.IndexFlat) and not _is_near_scalar(self._storage)
        self.most = _MOST_EF

    @property
    def value(self) -> int:
        return int(self._index.hnsw.efSearch)

    def set(self, value: int) -> None:
        self._index.hnsw.efSearch = value

    def search(self, queries: Vectors, value: int) -> npt.NDArray[np.int64]:
        effort = faiss.SearchParametersHNSW(efSearch=value)  # type: ignore[attr-defined]
        rows: npt.NDArray[np.int64] = self._index.search(queries, _DEPTH, params=effort)[1]
        return rows

    def truth(self, queries: Vectors) -> npt.NDArray[np.int64]:
        if self._index.ntotal * self._index.d > _EXACT_NUMBERS:
            raise RuntimeError("too many vectors")
        rows: npt.NDArray[np.int64] = self._storage.search(queries, _DEPTH)[1]
        return rows

    def sample(self, how_many: int) -> Vectors:
        positions = np.linspace(0, self._index.ntotal - 1, how_many).astype(int)
        return np.stack([self._storage.reconstruct(int(position)) for position in positions])


def _knob_of(index: Any) -> _Ivf | _Hnsw | None:
    if not index.ntotal:
        return None
    if isinstance(index, faiss.IndexIVF):
        return _Ivf(index)
    return _Hnsw(index) if isinstance(index, faiss.IndexHNSW) else None


def _chosen(knob: _Ivf | _Hnsw, asked: int | None) -> tuple[int, float | None]:
    """The value and its recall; what is asked for, or the file's own where nothing can be measured."""
    value = min(asked or knob.value, knob.most)
    try:
        with _all_cores():
            queries = near(knob.sample(_QUERIES), _COSINE_OF_CODES if knob.loses else _COSINE)
            truth = knob.truth(queries)
            recall = recall_of(knob.search(queries, value), truth)
            while asked is None and recall < WANTED_RECALL and value < knob.most:
                value = min(2 * value, knob.most)
                recall = recall_of(knob.search(queries, value), truth)
    except RuntimeError:  # Some kinds can't give their vectors back.
        return value, None
    return value, recall


def _is_near_scalar(index: Any) -> bool:
    """Whether each number is kept by itself, in 8 bits or more."""
    if not isinstance(index, faiss.IndexIVFScalarQuantizer | faiss.IndexScalarQuantizer):
        return False
    return int(index.sq.code_size) >= int(index.d)


def _refined(whole: Any) -> Any:
    """The layer that scores candidates from their vectors; None where there is none."""
    index = faiss.downcast_index(whole)
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index if isinstance(index, faiss.IndexRefine) else None


def _refine_enough(index: Any, knob: _Ivf | _Hnsw | None, asked: int | None) -> float | None:
    """Raises ``k_factor``, which files are saved with as 1, and then the knob that nobody asked for, until enough is
    found; returns the recall, which is against the vectors that refine, and so tells what the codes lose."""
    vectors = faiss.downcast_index(index.refine_index)
    positions = np.linspace(0, index.ntotal - 1, _QUERIES).astype(int)
    try:
        with _all_cores():
            queries = near(np.stack([vectors.reconstruct(int(position)) for position in positions]))
            if index.ntotal * index.d > _EXACT_NUMBERS:
                raise RuntimeError("too many vectors")
            truth = vectors.search(queries, _DEPTH)[1]
            while (found := recall_of(index.search(queries, _DEPTH)[1], truth)) < WANTED_RECALL:
                if index.k_factor < _MOST_K_FACTOR:
                    index.k_factor = min(2 * index.k_factor, _MOST_K_FACTOR)
                elif knob is not None and asked is None and knob.value < knob.most:
                    knob.set(min(2 * knob.value, knob.most))
                else:
                    break
            return found
    except RuntimeError:
        return None


@contextmanager
def _all_cores() -> Iterator[None]:
    """A server's workers have one thread each; before they work, all cores are free."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
