"""serper.dev's search API."""

from typing import Any, NamedTuple

import orjson

from slime_search.errors import TransientFault
from slime_search.service import ServiceClient
from slime_search.tokens import well_formed
from slime_search.tools.google.cache import Memory

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
            ServiceError: serper.dev failed after the retries, or refused.
        """
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
