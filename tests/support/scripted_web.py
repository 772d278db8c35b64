"""serper.dev and the web, on this machine."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

KEY = "serper-secret-0123456789"


class Serper(LoopbackServer):
    """serper.dev's search, which answers only to its key."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = {"searchParameters": {}, "organic": []}
        self.fault: Fault | None = None
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/search", self._search)]

    async def _search(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((str(request.url), dict(request.headers), orjson.loads(await request.read())))
        if request.headers.get("X-API-KEY") != KEY:
            return web.Response(status=403, text='{"message":"Unauthorized.","statusCode":403}')
        return json_response(self.answer) if self.fault is None else await self.fault(request, self.answer)


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web(LoopbackServer):
    """Sites whose pages the tests write: ``pages`` holds an answer, or an HTML text, by path."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, Answer | str] = {}
        self.visits: list[str] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/{path:.*}", self._visit)]

    async def _visit(self, request: web.Request) -> web.StreamResponse:
        self.visits.append(request.path)
        page = self.pages[request.path]
        return web.Response(text=page, content_type="text/html") if isinstance(page, str) else await page(request)


def sends(body: bytes, content_type: str | None = "text/html", **headers: str) -> Answer:
    """These bytes, under this header."""

    async def answer(request: web.Request) -> web.StreamResponse:
        kind = {"Content-Type": content_type} if content_type else {}
        return web.Response(body=body, headers={**kind, **{k.replace("_", "-"): v for k, v in headers.items()}})

    return answer


def redirects(target: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target})

    return answer


def fails(code: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="<p>an error page</p>", content_type="text/html")

    return answer


async def crawls(request: web.Request) -> web.StreamResponse:
    """A byte now and then, for ever."""
    response = web.StreamResponse(headers={"Content-Type": "text/html"})
    await response.prepare(request)
    while True:
        await response.write(b"<p>")
        await asyncio.sleep(0.05)


async def floods(request: web.Request) -> web.StreamResponse:
    """More than anyone wants to read."""
    response = web.StreamResponse(headers={"Content-Type": "text/html"})
    await response.prepare(request)
    while True:
        await response.write(b"<p>flood</p>" * 10_000)


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """The connection ends in the middle of the page."""
    response = web.StreamResponse(headers={"Content-Type": "text/html", "Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b"<p>half of")
    assert request.transport is not None
    request.transport.close()
    return response
