"""What a server does before and around its routes: a bearer token, a limit of the body, draining, disconnects."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slime_search.transport.unavailable import Draining

_OPEN = frozenset({"/health", "/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_UNAUTHORIZED = (
    "Authorization: send the header 'Authorization: Bearer …' with the token that this server was started with"
)
_LINGER_S = 10.0
_LINGER_BODIES = 2
"""So many times the limit is read after a refusal."""
T = TypeVar("T")


class BearerToken:
    """ASGI middleware that answers 401 to requests without the token, before it reads their body.

    What probes and readers of the documentation ask for stays open.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path in _OPEN or self._is_authorized(scope):
            await self._app(scope, receive, send)
            return
        body = orjson.dumps({"detail": _UNAUTHORIZED})
        response = Response(body, 401, {"WWW-Authenticate": "Bearer"}, media_type="application/json")
        await response(scope, receive, send)

    def _is_authorized(self, scope: Scope) -> bool:
        header: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, sent = header.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(sent.strip(), self._token)


class BodyLimit:
    """ASGI middleware that answers 413 to a request whose body is larger than ``max_bytes``.

    A body that says its length is refused before it is read; one that comes in chunks, when it has grown too large.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            body = await _read(receive, self._max_bytes)
            if body is not None:
                return await self._app(scope, _replay(body, receive), send)
        elif int(headers.get(b"content-length", b"0")) <= self._max_bytes:
            return await self._app(scope, receive, send)
        await _refuse(receive, send, self._max_bytes)


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """The body, or None where it is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > max_bytes:
            return None
        more = message.get("more_body", False)
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receives ``body``, and then whatever ``receive`` does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(receive: Receive, send: Send, max_bytes: int) -> None:
    """Answers, and reads on for a while: a client that is still sending would not see the answer otherwise."""
    detail = f"body: larger than {max_bytes >> 20} MiB; send fewer or shorter queries a request"
    response = Response(orjson.dumps({"detail": detail}), 413, {"Connection": "close"}, "application/json")
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            discarded = 0
            while discarded < _LINGER_BODIES * max_bytes and (message := await receive()).get("more_body"):
                discarded += len(message["body"])
    await send({"type": "http.response.body", "body": b""})


class Drain:
    """Counts the requests in flight and, once it has begun, refuses new ones.

    It begins in a signal handler, between any two steps of the event loop's thread, in which everything else happens.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._on_empty: Callable[[], object] | None = None
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether new requests are refused."""
        return self._on_empty is not None

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the answering of one request. Raises Draining."""
        # Counted before it is let in: a drain that begins in between waits for it.
        self._in_flight += 1
        try:
            self.check()
            yield
        finally:
            self._in_flight -= 1
            self._end_if_empty()

    def check(self) -> None:
        """Raises Draining where a new request is to be refused."""
        if self._on_empty is not None:
            raise Draining("the server is about to end: ask another one, or try again later")

    def begin(self, on_empty: Callable[[], object]) -> None:
        """Refuses new requests; ``on_empty`` is called once, as soon as none is in flight."""
        self._on_empty = on_empty
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self._on_empty is not None and not self._in_flight and not self._ended:
            self._ended = True
            self._on_empty()


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away. The request's body has been read.

    Work that ends without waiting, as a search that the cache answers, pays nothing for it.

    Raises:
        ClientGone: the client went away.
        Exception: what ``work`` raised.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        connected.reschedule(loop.time())

    def begin_to_watch() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    beginning = loop.call_soon(begin_to_watch)
    connected = asyncio.timeout(None)
    try:
        async with connected:
            return await work
    except TimeoutError:
        if connected.expired():
            raise ClientGone from None
        raise
    finally:
        beginning.cancel()
        if watcher is not None:
            watcher.cancel()
