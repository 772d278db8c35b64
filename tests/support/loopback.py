"""An aiohttp.web server on a free loopback port, in a thread with a loop of its own, and the faults it can play."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import orjson
from aiohttp import web

Fault = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
"""Answers a request in place of the proper answer, which it is given."""


class LoopbackServer:
    """Serves ``routes()`` while it is entered. Everything it records may be read once the requests are answered."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.in_flight = 0
        self.peak_in_flight = 0

    def routes(self) -> Iterable[web.RouteDef]:
        raise NotImplementedError

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._runner is not None
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26, middlewares=[self._count])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            self.in_flight -= 1


def json_response(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def status(code: int, text: str = "scripted fault", headers: dict[str, str] | None = None) -> Fault:
    async def answer(request: web.Request, proper: Any) -> web.StreamResponse:
        return web.Response(status=code, text=text, headers=headers)

    return answer


def raw(body: bytes) -> Fault:
    """Status 200 with exactly these bytes."""

    async def answer(request: web.Request, proper: Any) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


def edited(edit: Callable[[Any], Any]) -> Fault:
    """The proper answer after ``edit``."""

    async def answer(request: web.Request, proper: Any) -> web.StreamResponse:
        return json_response(edit(orjson.loads(orjson.dumps(proper))))

    return answer


async def truncated(request: web.Request, proper: Any) -> web.StreamResponse:
    """Half of the proper JSON, announced and delivered as if it were whole."""
    body = orjson.dumps(proper)
    return web.Response(body=body[: len(body) // 2], content_type="application/json")


async def cut(request: web.Request, proper: Any) -> web.StreamResponse:
    """The connection breaks in the middle of the body."""
    body = orjson.dumps(proper)
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def disconnect(request: web.Request, proper: Any) -> web.StreamResponse:
    """The connection breaks before any answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def not_http(request: web.Request, proper: Any) -> web.StreamResponse:
    """Bytes that are no HTTP answer."""
    assert request.transport is not None
    request.transport.write(b"\x00\x01 this is not HTTP \xff\r\n\r\n")  # type: ignore[attr-defined]
    request.transport.close()
    return web.Response()


async def hang(request: web.Request, proper: Any) -> web.StreamResponse:
    """No answer until the client gives up."""
    await asyncio.sleep(3600)
    raise AssertionError("unreachable")


async def until(condition: Callable[[], bool]) -> None:
    """Returns once ``condition`` holds; another thread may make it hold, so no event can tell."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def in_order(*faults: Any) -> Callable[[Any], Any]:
    """A script that plays ``faults`` one a request, and then answers properly."""
    remaining = iter(faults)
    return lambda exchange: next(remaining, None)


OF_ANY_SERVICE: dict[str, Fault] = {
    "500": status(500),
    "404": status(404),
    "cut": cut,
    "disconnected": disconnect,
    "truncated": truncated,
    "garbage": raw(b"<html>"),
    "slow": hang,
    "not HTTP": not_http,
}
"""What can be wrong with any server, by name."""


@contextmanager
def says(data: bytes, host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of something that answers every connection with ``data``."""
    with socket.create_server((host, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://{host}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
