"""BM25 over the words of every passage."""

from collections.abc import Callable, Iterable, Sequence
from typing import Self

import bm25s
import numpy as np
import numpy.typing as npt

from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.words import split_words

Split = Callable[[str], list[str]]


class Bm25Index:
    """BM25 in Lucene's variant. A passage that shares no word with the query is not a hit."""

    def __init__(self, scorer: bm25s.BM25, vocabulary: dict[str, int], split: Split) -> None:
        self._scorer = scorer
        self._vocabulary = vocabulary
        self._split = split

    @classmethod
    def build(cls, texts: Iterable[str], split: Split = split_words) -> Self:
        """Indexes ``texts``; the position of a text is the ``row_index`` of its hits.

        Args:
            texts: the passages.
            split: makes words of them, and of the queries.

        Raises:
            ValueError: no text holds a word.
        """
        vocabulary: dict[str, int] = {}
        word_ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in split(text)] for text in texts]
        if not vocabulary:
            raise ValueError("nothing to index: no text holds a word (letters, digits or underscores)")
        scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        scorer.index((word_ids, vocabulary), create_empty_token=False, show_progress=False)
        return cls(scorer, vocabulary, split)

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query; equal scores are ordered by position in the corpus."""
        return [self._search_one(query, topk) for query in queries]

    def _search_one(self, query: str, topk: int) -> list[Hit]:
        word_ids = [self._vocabulary[word] for word in self._split(query) if word in self._vocabulary]
        if not word_ids:
            return []
        scores = self._scorer.get_scores_from_ids(word_ids)
        best = _best_rows(scores, topk)
        return [Hit(row, score) for row, score in zip(best.tolist(), scores[best].tolist(), strict=True)]


def _best_rows(scores: npt.NDArray[np.float32], topk: int) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(scores)
    if len(rows) > topk:
        # Sorting only what reaches the k-th best score keeps every row tied with it, so that the order stays exact.
        kth_best = np.partition(scores[rows], -topk)[-topk]
        rows = rows[scores[rows] >= kth_best]
    return rows[np.argsort(-scores[rows], kind="stable")[:topk]]
