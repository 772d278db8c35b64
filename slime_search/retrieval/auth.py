"""An optional bearer token."""

import secrets

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = frozenset({"/health", "/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_MESSAGE = "Authorization: send the header 'Authorization: Bearer …' with the token that this server was started with"


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
        body = orjson.dumps({"detail": _MESSAGE})
        response = Response(body, 401, {"WWW-Authenticate": "Bearer"}, media_type="application/json")
        await response(scope, receive, send)

    def _is_authorized(self, scope: Scope) -> bool:
        header: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, sent = header.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(sent.strip(), self._token)
