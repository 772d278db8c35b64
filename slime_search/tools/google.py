"""Google search through serper.dev, snippets only."""

from typing import Any

from slime_search.errors import TransientFault
from slime_search.service import ServiceClient
from slime_search.tokens import well_formed
from slime_search.tools.base import Passage, ToolResult, passages_result

SERPER_URL = "https://google.serper.dev/search"


class GoogleSearch:
    """Searches the web.

    Args:
        client: the connection; its concurrency bounds the searches in flight.
        api_key: serper.dev's key. It travels in a header only, never in a URL, a log or an error.
        topk: results a query.
        url: serper.dev's endpoint.
    """

    def __init__(self, client: ServiceClient, *, api_key: str, topk: int, url: str = SERPER_URL) -> None:
        self._client = client
        self._headers = {"X-API-KEY": api_key}
        self._topk = topk
        self._url = url

    async def __call__(self, query: str) -> ToolResult:
        payload = {"q": well_formed(query), "num": self._topk}
        hits = await self._client.post(self._url, payload, _organic, self._headers)
        return passages_result(tuple(hits[: self._topk]))


def _organic(body: Any) -> list[Passage]:
    match body:
        case {"organic": list(hits)}:
            return [
                Passage(well_formed(str(hit.get("title") or "")), well_formed(str(hit["snippet"])))
                for hit in hits
                if isinstance(hit, dict) and hit.get("snippet")
            ]
        # serper.dev leaves the list out when Google finds nothing.
        case {"searchParameters": _}:
            return []
    raise TransientFault(f"not an answer of serper.dev: {str(body)[:300]}")
