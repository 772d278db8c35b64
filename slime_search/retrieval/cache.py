"""The results of past searches, as far as they fit."""

import sys
from collections import OrderedDict

from slime_search.retrieval.retriever import Hit, Query

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
