"""The HTTP application: routes, answers and refusals."""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.loading import Loading, NotLoaded, ServingOptions
from slime_search.retrieval.metrics import CONTENT_TYPE, Metrics, RequestMetrics
from slime_search.retrieval.protocol import (
    DETAILS_HEADER,
    MAX_BODY_BYTES,
    AnswerTooLarge,
    InvalidRequest,
    NotNow,
    Refusal,
    RetrieveRequest,
    RetrieveResponse,
    check_answer,
    read_request,
)
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.service import SearchService
from slime_search.transport.middleware import BearerToken, BodyLimit, ClientGone, Drain, while_connected
from slime_search.transport.unavailable import Unavailable

_RETRY_AFTER = {"Retry-After": "1"}
_REQUEST = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": RetrieveRequest.model_json_schema()}}},
    "parameters": [{"in": "header", "name": DETAILS_HEADER, "schema": {"type": "string", "examples": ["cached"]}}],
}
_Responses = dict[int | str, dict[str, Any]]
_UNAUTHORIZED: _Responses = {401: {"model": Refusal, "description": "The bearer token is missing or wrong."}}
_PROMETHEUS: _Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_REFUSED: _Responses = {
    413: {"model": Refusal, "description": "The body is too large."},
    422: {"model": Refusal, "description": "A field does not fit; the message names it, its value and the fix."},
}
_UNAVAILABLE: _Responses = {
    503: {
        "model": NotNow,
        "description": "The server is loading, full, late or about to end; try again after Retry-After seconds.",
    }
}


def create_app(loading: Loading, drain: Drain, options: ServingOptions) -> FastAPI:
    """Builds the application. Until ``loading`` has ended, ``/retrieve`` and ``/ready`` answer 503 and the progress."""
    app = FastAPI(title="slime-search retriever")
    metrics = Metrics(lambda: loading.loaded)
    service = SearchService(loading, options, metrics)
    guarded = _UNAUTHORIZED if options.token is not None else {}
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    if options.token is not None:
        app.add_middleware(BearerToken, token=options.token)
    app.add_middleware(RequestMetrics, metrics=metrics)

    async def retrieve(request: Request) -> Response:
        """Finds the best passages for every query."""
        body = read_request(await request.body(), request.headers.get("content-type", ""))
        check_answer(len(body.queries), body.topk or options.default_topk)
        with drain.request():
            corpus = loading.collection.corpus
            found = await while_connected(request.receive, service.search(body.queries, body.topk))
            answer: dict[str, object] = {"result": _result(corpus, found.hits, body.return_scores)}
            if request.headers.get(DETAILS_HEADER) == "cached":
                answer["cached"] = found.cached
            return _json(answer)

    responses = guarded | _REFUSED | _UNAVAILABLE
    app.post("/retrieve", response_model=RetrieveResponse, responses=responses, openapi_extra=_REQUEST)(retrieve)
    # FastAPI describes this route and Starlette answers it, since FastAPI would double the time that a cached answer
    # takes.
    app.router.routes.insert(0, Route("/retrieve", retrieve, methods=["POST"]))

    @app.get("/health")
    async def health() -> Response:
        """The process lives, whether or not it can search yet."""
        return _json({"status": "ok"})

    @app.get("/ready", responses=_UNAVAILABLE)
    async def ready() -> Response:
        """The server can search, and so can the processes that it needs."""
        drain.check()
        loading.collection.check()
        return _json({"status": "ready", "passages": len(loading.collection.corpus)})

    @app.get("/metrics", response_class=Response, responses=guarded | _PROMETHEUS)
    async def prometheus() -> Response:
        """Counters for Prometheus, in its text format."""
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @app.exception_handler(NotLoaded)
    async def not_loaded(_request: Request, _error: NotLoaded) -> Response:
        return _json({"status": "loading", **loading.progress()}, 503, _RETRY_AFTER)

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> Response:
        return _json({"status": error.status, "detail": str(error)}, 503, _RETRY_AFTER)

    @app.exception_handler(AnswerTooLarge)
    async def too_large(_request: Request, error: AnswerTooLarge) -> Response:
        return _json({"detail": [{"loc": ["body", "topk"], "msg": str(error), "type": "answer_too_large"}]}, 422)

    @app.exception_handler(ClientGone)
    @app.exception_handler(ClientDisconnect)
    async def client_gone(_request: Request, _error: Exception) -> Response:
        # Nobody reads it; the metrics count it under the number that web servers have for it.
        return Response(status_code=499)

    @app.exception_handler(InvalidRequest)
    async def invalid(_request: Request, error: InvalidRequest) -> Response:
        return _json(Refusal(detail=error.details).model_dump(), 422)

    return app


def _result(corpus: Corpus, hits: list[list[Hit]], return_scores: bool) -> list[list[Any]]:
    if return_scores:
        return [
            [{"document": orjson.Fragment(corpus.row(hit.row_index)), "score": hit.score} for hit in found]
            for found in hits
        ]
    return [[orjson.Fragment(corpus.row(hit.row_index)) for hit in found] for found in hits]


def _json(content: object, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status_code, headers, media_type="application/json")
