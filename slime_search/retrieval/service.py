"""Searching, as the HTTP application sees it: cached, shared, batched and bounded."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from slime_search.retrieval.batcher import Batcher
from slime_search.retrieval.cache import ResultCache
from slime_search.retrieval.collection import Collection
from slime_search.retrieval.loading import Loading
from slime_search.retrieval.metrics import Metrics
from slime_search.retrieval.options import ServingOptions
from slime_search.retrieval.retriever import Hit, Query
from slime_search.retrieval.sharing import SharedSearches
from slime_search.retrieval.unavailable import DeadlineExceeded


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
        self._searches = SharedSearches(batcher, self._cache.put)

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
