"""The HTTP application: routes, answers and refusals."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from slime_search.errors import ServiceUnavailable, SlimeSearchError
from slime_search.recipes.thinker_searcher.service.protocol import (
    MAX_BODY_BYTES,
    NoAnswer,
    SearchRequest,
    SearchResponse,
)
from slime_search.recipes.thinker_searcher.service.sessions import CONTENT_TYPE, Metrics, Sessions
from slime_search.transport.middleware import BodyLimit, ClientGone, Drain, while_connected
from slime_search.transport.unavailable import Unavailable
from slime_search.validation import field_of, reason, shown

POLL_S = 1.0

Check = Callable[[], Awaitable[object]]
"""Asks a service once. Raises ServiceUnavailable while it may still come, another error when it never will."""


class WarmUp:
    """The state of a service that is not ready yet.

    Args:
        checks: by what they wait for, carried out in this order.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self.ready = False
        self.waits_for = next(iter(checks), "")
        self.reason = ""
        self.error: SlimeSearchError | None = None

    async def run(self) -> None:
        """Returns when all have answered, or when ``error`` says why one never will."""
        for name, check in self._checks.items():
            self.waits_for, self.reason = name, ""
            while True:
                try:
                    await check()
                    break
                except ServiceUnavailable as error:
                    self.reason = str(error)
                    await asyncio.sleep(POLL_S)
                except SlimeSearchError as error:
                    self.error = error
                    return
        self.ready = True


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_RETRY_AFTER = {"Retry-After": "1"}
_EXAMPLE = '{"queries": ["Where was the director of Inception born?"]}'
_FAILED: dict[int | str, dict[str, Any]] = {
    503: {"model": NoAnswer, "description": "A service failed every question, or this one is loading, full or ending."}
}


def create_app(sessions: Sessions, warm_up: WarmUp, drain: Drain, metrics: Metrics, lifespan: Lifespan) -> FastAPI:
    """Builds the application. Until ``warm_up`` has ended, ``/search`` and ``/ready`` answer 503 and say why."""
    app = FastAPI(title="slime-search searcher", lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.url.path == "/search":
            metrics.requests.labels(response.status_code).inc()
        return response

    @app.post("/search", response_model=SearchResponse, responses=_FAILED)
    async def search(body: SearchRequest, request: Request) -> Response:
        """Has every question answered by a session of its own.

        A row without an answer has an error. When all questions failed, so did the request.
        """
        if not warm_up.ready:
            return _not_ready(warm_up)
        with drain.request():
            rows = await while_connected(request.receive, sessions.find_all(body.queries, body.max_turns))
        if rows and all("error" in row for row in rows):
            return _json({"error": rows[0]["error"], "results": rows}, 503)
        return _json({"results": rows})

    @app.get("/health")
    async def health() -> Response:
        """The process lives, whether or not it can search yet."""
        return _json({"status": "ok"})

    @app.get("/ready", responses=_FAILED)
    async def ready() -> Response:
        """Its engine and its search have answered once, and it takes questions."""
        drain.check()
        return _json({"status": "ready"}) if warm_up.ready else _not_ready(warm_up)

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Counters for Prometheus, in its text format."""
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> Response:
        return _json(_error(error.status, "searcher", str(error)), 503, _RETRY_AFTER)

    @app.exception_handler(ClientGone)
    @app.exception_handler(ClientDisconnect)
    async def client_gone(_request: Request, _error: Exception) -> Response:
        # Nobody reads it; the metrics count it under the number that web servers have for it.
        return Response(status_code=499)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(map(_explain, error.errors()))
        body = _error("invalid_request", "searcher", f"{said}; send an object like {_EXAMPLE}")
        body["error"]["fields"] = [_field(fault) for fault in error.errors()]
        return _json(body, 422)

    return app


def _not_ready(warm_up: WarmUp) -> Response:
    step = f"waiting for the {warm_up.waits_for}"
    body = _error("loading", "searcher", f"{step}: {warm_up.reason or 'asked it just now'}")
    return _json({**body, "status": "loading", "step": step, "done": 0, "total": None}, 503, _RETRY_AFTER)


def _error(kind: str, service: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "service": service, "message": message}}


def _field(error: Any) -> list[str]:
    """The path to the field that does not fit; empty for the body itself."""
    if error["type"] == "json_invalid":  # it holds the character, not a field
        return []
    return [str(part) for part in error["loc"] if part != "body"]


def _explain(error: Any) -> str:
    """Names the field and its value, in characters that can be sent."""
    field = field_of({"loc": [part for part in error["loc"] if part != "body"]}) if _field(error) else "the body"
    found = "" if error["type"] in ("json_invalid", "missing") else f", got {shown(error['input'])}"
    return f"{field}: {reason(error)}{found}"


def _json(content: object, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status_code, headers, media_type="application/json")
