"""A server in the shape of Search-R1's ``/retrieve`` whose passages a Python function writes."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

Search = Callable[[str], list[str]]
"""From a query to passages; in each, the first line is the title."""


@dataclass(frozen=True)
class Lookup:
    """One request."""

    number: int
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def query(self) -> str:
        (query,) = self.body["queries"]
        return str(query)


class ScriptedRetriever(LoopbackServer):
    """``script`` may name a fault for any request; ``scored`` answers in the shape of ``return_scores``."""

    def __init__(self, search: Search, *, scored: bool = False) -> None:
        super().__init__()
        self._search = search
        self._scored = scored
        self.script: Callable[[Lookup], Fault | None] = lambda lookup: None
        self.latency_s = 0.0
        self.lookups: list[Lookup] = []

    @property
    def search_url(self) -> str:
        return f"{self.url}/retrieve"

    @property
    def queries(self) -> list[str]:
        return [lookup.query for lookup in self.lookups]

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/retrieve", self._retrieve)]

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        lookup = Lookup(len(self.lookups), orjson.loads(await request.read()), dict(request.headers))
        self.lookups.append(lookup)
        fault = self.script(lookup)
        await asyncio.sleep(self.latency_s)
        answer = {"result": [[self._row(text) for text in self._search(lookup.query)[: lookup.body["topk"]]]]}
        return json_response(answer) if fault is None else await fault(request, answer)

    def _row(self, contents: str) -> dict[str, Any]:
        row = {"id": "0", "contents": contents}
        return {"document": row, "score": 0.5} if self._scored else row
