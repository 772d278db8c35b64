from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.retriever import Hit, HybridRetriever


@dataclass(frozen=True)
class Ranking:
    """Finds the same rows for every query; ``asked`` keeps the depths."""

    rows: list[int]
    asked: list[int]

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        self.asked.append(topk)
        return [[Hit(row, -float(rank)) for rank, row in enumerate(self.rows[:topk])] for _ in queries]


rankings = st.lists(
    st.lists(st.integers(0, 12), unique=True).map(lambda rows: Ranking(rows, [])), min_size=1, max_size=4
)
topks = st.integers(1, 15)


def expected_rows(rankings: list[Ranking], k: int, depth: int) -> list[int]:
    """Every found row by the exact sum of its shares, then by position."""
    cut = [ranking.rows[:depth] for ranking in rankings]
    shares = {
        row: sum(Fraction(1, k + rows.index(row) + 1) for rows in cut if row in rows)
        for row in {row for rows in cut for row in rows}
    }
    return sorted(shares, key=lambda row: (-shares[row], row))


def rows_of(hits: list[Hit]) -> list[int]:
    return [hit.row_index for hit in hits]


@given(rankings=rankings, topk=topks, k=st.integers(0, 100), depth=st.integers(1, 15))
def test_the_order_is_that_of_the_exact_sums(rankings: list[Ranking], topk: int, k: int, depth: int) -> None:
    [hits] = HybridRetriever(rankings, k=k, depth=depth).search(["q"], topk)
    assert rows_of(hits) == expected_rows(rankings, k, max(topk, depth))[:topk]
    assert {asked for ranking in rankings for asked in ranking.asked} == {max(topk, depth)}


@given(rankings=rankings, topk=topks, data=st.data())
def test_the_order_of_the_retrievers_does_not_matter(rankings: list[Ranking], topk: int, data: st.DataObject) -> None:
    other_way = data.draw(st.permutations(rankings))
    assert HybridRetriever(rankings).search(["q"], topk) == HybridRetriever(other_way).search(["q"], topk)


@given(rows=st.lists(st.integers(0, 12), unique=True), topk=topks, copies=st.integers(1, 3))
def test_retrievers_that_agree_keep_their_order(rows: list[int], topk: int, copies: int) -> None:
    [hits] = HybridRetriever([Ranking(rows, [])] * copies).search(["q"], topk)
    assert rows_of(hits) == rows[:topk]


@given(rankings=rankings, topk=topks)
def test_a_smaller_topk_is_the_beginning_of_a_larger(rankings: list[Ranking], topk: int) -> None:
    hybrid = HybridRetriever(rankings)
    assert hybrid.search(["q"], topk) == [hybrid.search(["q"], 100)[0][:topk]]


def test_scores_are_those_of_the_paper() -> None:
    hybrid = HybridRetriever([Ranking([7, 3], []), Ranking([3, 5], [])])
    assert hybrid.search(["q"], 3) == [[Hit(3, 1 / 62 + 1 / 61), Hit(7, 1 / 61), Hit(5, 1 / 62)]]


def test_every_query_is_fused_alone() -> None:
    indexes = [Bm25Index.build(["red fox", "blue hen"]), Bm25Index.build(["blue fox", "red hen"])]
    found = HybridRetriever(indexes).search(["red", "unknown", "fox red", "hen"], 2)
    assert [rows_of(hits) for hits in found] == [[0, 1], [], [0, 1], [1]]


def test_nothing_to_fuse_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        HybridRetriever([])
