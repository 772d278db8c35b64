"""A bound on the bytes of a request."""

import asyncio
import contextlib

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slime_search.retrieval.protocol import MAX_BODY_BYTES

_MESSAGE = f"body: larger than {MAX_BODY_BYTES >> 20} MiB; send fewer or shorter queries a request"
_LINGER_S = 10.0
_LINGER_BYTES = 2 * MAX_BODY_BYTES


class BodyLimit:
    """ASGI middleware that answers 413 to a search whose body is larger than ``MAX_BODY_BYTES``.

    A body that says its length is refused before it is read; one that comes in chunks, when it has grown too large.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            body = await _read(receive)
            if body is not None:
                return await self._app(scope, _replay(body, receive), send)
        elif int(headers.get(b"content-length", b"0")) <= MAX_BODY_BYTES:
            return await self._app(scope, receive, send)
        await _refuse(receive, send)


async def _read(receive: Receive) -> bytes | None:
    """The body, or None where it is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        more = message.get("more_body", False)
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receives ``body``, and then whatever ``receive`` does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(receive: Receive, send: Send) -> None:
    """Answers, and reads on for a while: a client that is still sending would not see the answer otherwise."""
    response = Response(orjson.dumps({"detail": _MESSAGE}), 413, {"Connection": "close"}, "application/json")
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            discarded = 0
            while discarded < _LINGER_BYTES and (message := await receive()).get("more_body"):
                discarded += len(message["body"])
    await send({"type": "http.response.body", "body": b""})
