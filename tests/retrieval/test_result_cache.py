from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.retriever import Hit, Query
from slime_search.retrieval.service import ResultCache

HITS = [[Hit(number, 1.5)] * 3 for number in range(6)]
QUERIES = [Query(str(number), 3) for number in range(6)]


def size_of_one_entry() -> int:
    """The smallest cache that keeps one of QUERIES."""
    return next(size for size in range(100_000) if keeps(ResultCache(size), 0))


def keeps(cache: ResultCache, number: int) -> bool:
    cache.put(QUERIES[number], HITS[number])
    return cache.get(QUERIES[number]) is not None


ENTRY = size_of_one_entry()


@given(room=st.integers(0, 4), asked=st.lists(st.integers(0, 5), max_size=40))
def test_keeps_exactly_what_was_asked_for_last(room: int, asked: list[int]) -> None:
    cache = ResultCache(room * ENTRY)
    for position, number in enumerate(asked):
        last_asked = list(dict.fromkeys(reversed(asked[:position])))[:room]
        hits = cache.get(QUERIES[number])
        assert hits == (HITS[number] if number in last_asked else None)
        if hits is None:
            cache.put(QUERIES[number], HITS[number])
        assert len(cache) <= room


def test_large_results_take_more_room() -> None:
    cache = ResultCache(3 * ENTRY)
    for query, hits in zip(QUERIES[:3], HITS, strict=False):
        cache.put(query, hits)
    cache.put(Query("many", 1000), HITS[0] * 1000)
    assert len(cache) == 3
    cache.put(Query("x" * ENTRY, 3), [])
    assert [cache.get(query) is not None for query in QUERIES[:3]] == [False, False, True]


def test_another_topk_is_another_query() -> None:
    cache = ResultCache(10 * ENTRY)
    cache.put(Query("red", 3), HITS[0])
    assert cache.get(Query("red", 2)) is None
