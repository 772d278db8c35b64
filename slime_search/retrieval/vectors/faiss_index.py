"""FAISS files of other kinds than uncompressed vectors, searched by FAISS."""

from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.effort import Effort, set_effort
from slime_search.retrieval.vectors.faiss_ids import CorpusIds, RowsOfIds, own_ids, rows_of_ids
from slime_search.retrieval.vectors.stored import read_ahead
from slime_search.retrieval.vectors.vector_index import Neighbours, check_queries


class FaissIndex:
    """As it is in its file: exact or not, and with its own order among equal scores."""

    def __init__(self, index: Any, rows: RowsOfIds | None, effort: Effort | None) -> None:
        self._index = index
        self._rows = rows
        self.effort = effort

    @classmethod
    def open(
        cls, path: Path, corpus_ids: CorpusIds, *, nprobe: int | None = None, ef_search: int | None = None
    ) -> Self:
        """Maps what FAISS can map and reads the rest. Ids become rows, and the effort is set, as those modules say.

        Raises:
            VectorIndexError: FAISS can't read it, its scores are not inner products, its ids are no rows, or it has no
                setting of the name that is asked for.
        """
        read_ahead(path)
        index = cls.read(path)
        own = own_ids(index)
        rows = None if own is None else rows_of_ids(path, own, corpus_ids)
        return cls(index, rows, set_effort(index, nprobe=nprobe, ef_search=ef_search))

    @staticmethod
    def read(path: Path) -> Any:
        """FAISS's index. Raises VectorIndexError where it can't be read, or its scores are not inner products."""
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise VectorIndexError(
                f"{path}: FAISS can't read it ({str(error).splitlines()[0]}); name a FAISS index or a store of "
                "`slime-search build-index`, and download or build it again where it was cut short"
            ) from None
        refuse_other_metrics(path, index.metric_type)
        return index

    @property
    def count(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """As ``VectorIndex`` says. Raises ValueError for queries that do not fit."""
        queries = check_queries(queries, self.dimension)
        scores, rows = self._index.search(queries, topk)
        scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
        return Neighbours(scores, rows if self._rows is None else self._rows(rows))


def refuse_other_metrics(path: Path, metric: int) -> None:
    """Raises VectorIndexError unless ``metric`` is FAISS's number of the inner product."""
    if metric != faiss.METRIC_INNER_PRODUCT:
        name = "L2 distances" if metric == faiss.METRIC_L2 else f"FAISS's metric {metric}"
        raise VectorIndexError(
            f"{path}: searches by {name}, and a retriever's scores are inner products, the higher the better; "
            "build the index again with FAISS's METRIC_INNER_PRODUCT or with `slime-search build-index`"
        )
