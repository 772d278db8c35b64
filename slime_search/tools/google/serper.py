"""serper.dev's search API."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from aiolimiter import AsyncLimiter

from slime_search.core.tokens import well_formed
from slime_search.core.tool import check_query
from slime_search.errors import TransientFault
from slime_search.tools.google.cache import Memory
from slime_search.transport.client import Send, ServiceClient
from slime_search.transport.per_loop import PerLoop


class RateLimited:
    """Sends through ``send``, retries included, at most ``per_second`` times a second on each event loop."""

    def __init__(self, send: Send, *, per_second: float) -> None:
        self._send = send
        # At least one a period; a burst holds what a second allows.
        self._limiter = PerLoop(lambda: AsyncLimiter(max(per_second, 1.0), max(1.0 / per_second, 1.0)))

    async def __call__(self, url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        async with self._limiter.get():
            return await self._send(url, payload, headers)


MAX_QUERY_CHARS = 2_048
"""Characters of a query that Google takes."""
SERPER_URL = "https://google.serper.dev/search"


class Hit(NamedTuple):
    """One result. ``link`` may be empty."""

    title: str
    snippet: str
    link: str


class Found(NamedTuple):
    hits: list[Hit]
    cached: bool
    """Whether they were known, or asked for by somebody else at the time, so that they cost nothing."""


class Serper:
    """Asks serper.dev, once for each query.

    Args:
        client: the connection; its concurrency bounds the searches in flight.
        api_key: travels in a header only, never in a URL, a log, an error or the memory.
        url: serper.dev's endpoint.
        memory: what was found before.
    """

    def __init__(self, client: ServiceClient, *, api_key: str, url: str, memory: Memory) -> None:
        self._client = client
        self._headers = {"X-API-KEY": api_key}
        self._url = url
        self._memory = memory

    async def search(self, query: str, count: int) -> Found:
        """At most ``count`` results with a snippet, best first.

        Raises:
            InvalidQuery: the query is longer than Google takes.
            ServiceError: serper.dev failed after the retries, or refused.
        """
        check_query(query, MAX_QUERY_CHARS)
        payload = {"q": well_formed(query), "num": count}
        cached = True

        async def ask() -> bytes:
            nonlocal cached
            cached = False
            found = await self._client.post(self._url, payload, _organic, self._headers)
            return orjson.dumps([tuple(hit) for hit in found])

        hits = orjson.loads(await self._memory.recall(("serper", self._url, payload), ask))
        return Found([Hit(*hit) for hit in hits[:count]], cached)


def _organic(body: Any) -> list[Hit]:
    match body:
        case {"organic": list(hits)}:
            return [
                Hit(*(well_formed(str(hit.get(key) or "")) for key in Hit._fields))
                for hit in hits
                if isinstance(hit, dict) and hit.get("snippet")
            ]
        # serper.dev leaves the list out when Google finds nothing.
        case {"searchParameters": _}:
            return []
    raise TransientFault(f"not an answer of serper.dev: {str(body)[:300]}")
