"""Which row of the corpus each id of a FAISS index stands for.

FAISS numbers vectors by position, unless they were added with ids of the caller's own (``IDMap``, ``IDMap2``, and IVF
kinds). Such ids are no positions: three vectors with the ids 1, 2 and 3 are rows 0, 1 and 2.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from slime_search.retrieval.errors import VectorIndexError

Ids = npt.NDArray[np.int64]
CorpusIds = Callable[[], Ids | None]
"""The ``id`` of every row of the corpus, in order; None where one of them is no whole number."""
_FIX = (
    "name the corpus whose rows carry these ids as whole numbers, or build the index again with add(), in the order of "
    "the corpus"
)


class OwnIds(NamedTuple):
    """The ids that an index gives its vectors, in the order in which the file holds them."""

    ids: Ids
    were_chosen: bool
    """Whether whoever added the vectors chose the ids; an IVF index does not say."""


def inner_index(whole: Any) -> Any:
    """The index below wrappers that map ids, turn vectors or refine what was found. It lives as long as ``whole``."""
    index = whole
    while True:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
            index = index.index
        elif isinstance(index, faiss.IndexRefine):
            index = index.base_index
        else:
            return index


def own_ids(whole: Any) -> OwnIds | None:
    """The ids of an index that may have others than positions; None where it can't."""
    # Views do not keep what they are views of, so that ``whole`` has to stay.
    index = faiss.downcast_index(whole)
    while not isinstance(index, faiss.IndexIDMap):
        if isinstance(index, faiss.IndexPreTransform):
            index = faiss.downcast_index(index.index)
        else:
            ivf = inner_index(index)
            return OwnIds(_ids_of_lists(ivf.invlists), False) if isinstance(ivf, faiss.IndexIVF) else None
    return OwnIds(faiss.vector_to_array(index.id_map), True)


def _ids_of_lists(lists: Any) -> Ids:
    parts = [np.empty(0, np.int64)]
    for number in range(lists.nlist):
        if size := lists.list_size(number):
            ids = lists.get_ids(number)
            parts.append(faiss.rev_swig_ptr(ids, size).copy())
            lists.release_ids(number, ids)
    return np.concatenate(parts)


class RowsOfIds:
    """Rows looked up by id."""

    def __init__(self, ids_of_rows: Ids) -> None:
        self._rows = np.argsort(ids_of_rows, kind="stable")
        self._ids = ids_of_rows[self._rows]

    def __call__(self, ids: Ids) -> Ids:
        """The row of each id, of which every one is known; -1 stays -1, which is FAISS's for no vector."""
        positions = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(ids < 0, -1, self._rows[positions])


def rows_of_ids(path: Path, own: OwnIds, corpus_ids: CorpusIds) -> RowsOfIds | None:
    """How ids become rows; None where they are rows already.

    1. Ids that are exactly the positions of the rows, in any order, stand for them: 2, 0, 1 are the rows 2, 0 and 1.
    2. Ids that are exactly those in the rows' ``id`` stand for these rows: 7, 9, 8 in a corpus with the ids "7", "8"
       and "9" are the rows 0, 2 and 1.
    3. Ids that are both, and were added in the order of the corpus's ids, are those of the corpus: the second reading
       puts the first vector into the first row, as vectors are usually added.

    Raises:
        VectorIndexError: they are neither; the message names some of them.
    """
    ids = own.ids
    if _are_positions(ids):
        if not own.were_chosen or np.array_equal(ids, np.arange(len(ids))):
            return None
        rows = corpus_ids()
        return RowsOfIds(rows) if rows is not None and np.array_equal(rows, ids) else None
    if (ids < 0).any():
        raise VectorIndexError(f"{path}: holds a vector with the id {ids.min()}", _FIX)
    known, counts = np.unique(ids, return_counts=True)
    if len(known) < len(ids):
        raise VectorIndexError(f"{path}: the id {known[counts > 1][0]} stands for {counts.max()} vectors", _FIX)
    rows = corpus_ids()
    if rows is not None and np.array_equal(np.sort(rows), known):
        return RowsOfIds(rows)
    strangers = known[:3] if rows is None else np.setdiff1d(known, rows)[:3]
    named = ", ".join(map(str, strangers if len(strangers) else known[:3]))
    raise VectorIndexError(
        f"{path}: its {len(ids):,} vectors were added with ids ({named}, …) that are neither the positions of rows, "
        f"0 to {len(ids) - 1:,}, nor what the corpus's rows have as id",
        _FIX,
    )


def _are_positions(ids: Ids) -> bool:
    if not len(ids) or ids.min() < 0 or ids.max() >= len(ids):
        return not len(ids)
    seen = np.zeros(len(ids), np.bool_)
    seen[ids] = True
    return bool(seen.all())
