"""Searching, as the HTTP application sees it: cached, in single flight, batched and bounded."""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from slime_search.retrieval.batcher import Answer, Batcher
from slime_search.retrieval.collection import Collection
from slime_search.retrieval.loading import Loading, ServingOptions
from slime_search.retrieval.metrics import Metrics
from slime_search.retrieval.retriever import Hit, Query
from slime_search.transport.unavailable import DeadlineExceeded

# A tuple of two, its two numbers and its place in a list.
_HIT_BYTES = 136
# The key, the list and the dictionary's own entry.
_ENTRY_BYTES = 360


class ResultCache:
    """Keeps the hits of the queries that were asked for last, in about ``max_bytes`` of memory; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._results: OrderedDict[Query, list[Hit]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, query: Query) -> list[Hit] | None:
        """The hits of ``query``, or None where they are not kept."""
        hits = self._results.get(query)
        if hits is not None:
            self._results.move_to_end(query)
        return hits

    def put(self, query: Query, hits: list[Hit]) -> None:
        """Keeps ``hits``, which must not be changed afterwards, in place of those that were asked for longest ago."""
        size = _size(query, hits)
        if query in self._results or size > self._max_bytes:
            return
        self._results[query] = hits
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= _size(*self._results.popitem(last=False))


def _size(query: Query, hits: list[Hit]) -> int:
    return _ENTRY_BYTES + sys.getsizeof(query.text) + _HIT_BYTES * len(hits)


@dataclass(slots=True)
class _InFlight:
    answer: Answer
    requests: int = 0
    """How many wait for it."""


class SingleFlightSearches:
    """Runs each search once at a time: a request for a query that is being searched gets that search's hits.

    Args:
        batcher: what searches.
        on_hits: told every query that was searched and its hits.
    """

    def __init__(self, batcher: Batcher, on_hits: Callable[[Query, list[Hit]], object]) -> None:
        self._batcher = batcher
        self._on_hits = on_hits
        self._in_flight: dict[Query, _InFlight] = {}

    async def search(self, queries: Iterable[Query]) -> dict[Query, list[Hit]]:
        """The hits of every query.

        Where the caller is cancelled, queries that nobody else waits for and whose search has not begun are dropped.

        Raises:
            QueueFull: there is no room for the queries that are not in flight.
            Exception: what the search of one of them raised.
        """
        if not queries:
            return {}
        self._start([query for query in dict.fromkeys(queries) if query not in self._in_flight])
        needed = {query: self._in_flight[query] for query in queries}
        for search in needed.values():
            search.requests += 1
        try:
            await asyncio.wait([search.answer for search in needed.values()])
            return {query: search.answer.result() for query, search in needed.items()}
        finally:
            for query, search in needed.items():
                search.requests -= 1
                if not search.requests and self._batcher.withdraw(search.answer):
                    del self._in_flight[query]

    def _start(self, queries: list[Query]) -> None:
        for query, answer in zip(queries, self._batcher.submit(queries), strict=True):
            self._in_flight[query] = _InFlight(answer)
            answer.add_done_callback(partial(self._end, query))

    def _end(self, query: Query, answer: Answer) -> None:
        if answer.cancelled():
            return
        del self._in_flight[query]
        if answer.exception() is None:
            self._on_hits(query, answer.result())


class Found(NamedTuple):
    """What was found for each text, in order."""

    hits: list[list[Hit]]
    cached: list[bool]
    """Whether the hits were known."""


class SearchService:
    """Answers from the cache, from a search in flight or by a new search, in that order."""

    def __init__(self, loading: Loading, options: ServingOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._cache = ResultCache(options.cache_bytes)
        batcher = Batcher(
            lambda texts, topk: _search(loading.collection, texts, topk),
            queue_size=options.queue_size,
            workers=options.workers,
            on_batch=metrics.batch_queries.observe,
        )
        metrics.queued_queries.set_function(lambda: batcher.waiting)
        self._searches = SingleFlightSearches(batcher, self._cache.put)

    async def search(self, texts: Sequence[str], topk: int | None) -> Found:
        """The hits of each text, with runs of whitespace in a text taken as one space.

        Raises:
            QueueFull: too many queries wait.
            DeadlineExceeded: there was no answer in time.
            Exception: what the search raised.
        """
        queries = [Query(normalise(text), topk or self._options.default_topk) for text in texts]
        found = {query: hits for query in dict.fromkeys(queries) if (hits := self._cache.get(query)) is not None}
        self._metrics.queries.inc(len(queries))
        cached = [query in found for query in queries]
        self._metrics.cache_hits.inc(sum(cached))
        try:
            async with asyncio.timeout(self._options.deadline_s):
                found |= await self._searches.search([query for query in queries if query not in found])
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self._options.deadline_s:g} s: try again later") from None
        return Found([found[query] for query in queries], cached)


def _search(collection: Collection, texts: Sequence[str], topk: int) -> list[list[Hit]]:
    found = collection.retriever.search(texts, topk)
    # Rows that are on disk only are read by this thread, so that the event loop finds them in memory.
    for row_index in {hit.row_index for hits in found for hit in hits}:
        collection.corpus.row(row_index)
    return found


def normalise(text: str) -> str:
    """The text that is searched for and cached: words as they are, one space between them."""
    return " ".join(text.split())
