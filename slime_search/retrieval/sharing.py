"""Computes once what several requests ask for at the same time."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from slime_search.retrieval.batcher import Answer, Batcher
from slime_search.retrieval.retriever import Hit, Query


@dataclass(slots=True)
class _Shared:
    answer: Answer
    requests: int = 0


class SharedSearches:
    """The searches in flight, each shared by every request that needs it.

    Args:
        batcher: what searches.
        on_hits: told every query that was searched and its hits.
    """

    def __init__(self, batcher: Batcher, on_hits: Callable[[Query, list[Hit]], object]) -> None:
        self._batcher = batcher
        self._on_hits = on_hits
        self._in_flight: dict[Query, _Shared] = {}

    async def search(self, queries: Collection[Query]) -> dict[Query, list[Hit]]:
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
        for shared in needed.values():
            shared.requests += 1
        try:
            await asyncio.wait([shared.answer for shared in needed.values()])
            return {query: shared.answer.result() for query, shared in needed.items()}
        finally:
            for query, shared in needed.items():
                shared.requests -= 1
                if not shared.requests and self._batcher.withdraw(shared.answer):
                    del self._in_flight[query]

    def _start(self, queries: list[Query]) -> None:
        for query, answer in zip(queries, self._batcher.submit(queries), strict=True):
            self._in_flight[query] = _Shared(answer)
            answer.add_done_callback(partial(self._end, query))

    def _end(self, query: Query, answer: Answer) -> None:
        if answer.cancelled():
            return
        del self._in_flight[query]
        if answer.exception() is None:
            self._on_hits(query, answer.result())
