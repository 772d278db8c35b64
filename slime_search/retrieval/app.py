"""The HTTP application: routes, answers and refusals."""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from slime_search.retrieval.auth import BearerToken
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.draining import Drain
from slime_search.retrieval.loading import Loading, NotLoaded
from slime_search.retrieval.metrics import Metrics, RequestMetrics
from slime_search.retrieval.options import ServingOptions
from slime_search.retrieval.protocol import RetrieveRequest, RetrieveResponse, explain
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.service import SearchService
from slime_search.retrieval.unavailable import Unavailable

_EXPLAINED_ERRORS = 3
_RETRY_AFTER = {"Retry-After": "1"}
_UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"description": "The server is loading, full, late or about to end; try again after Retry-After seconds."}
}


def create_app(loading: Loading, drain: Drain, options: ServingOptions) -> FastAPI:
    """Builds the application. Until ``loading`` has ended, ``/retrieve`` and ``/ready`` answer 503 and the progress."""
    app = FastAPI(title="slime-search retriever")
    metrics = Metrics()
    service = SearchService(loading, options, metrics)
    if options.token is not None:
        app.add_middleware(BearerToken, token=options.token)
    app.add_middleware(RequestMetrics, metrics=metrics)

    @app.post("/retrieve", response_model=RetrieveResponse, responses=_UNAVAILABLE)
    async def retrieve(request: RetrieveRequest) -> Response:
        """Finds the best passages for every query."""
        with drain.request():
            corpus = loading.collection.corpus
            hits = await service.search(request.queries, request.topk)
            return _json({"result": _result(corpus, hits, request.return_scores)})

    @app.get("/health")
    async def health() -> Response:
        """The process lives, whether or not it can search yet."""
        return _json({"status": "ok"})

    @app.get("/ready", responses=_UNAVAILABLE)
    async def ready() -> Response:
        """The server can search."""
        drain.check()
        return _json({"status": "ready", "passages": len(loading.collection.corpus)})

    @app.get("/metrics")
    async def prometheus(request: Request) -> Response:
        """Counters for Prometheus."""
        content, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    @app.exception_handler(NotLoaded)
    async def not_loaded(_request: Request, _error: NotLoaded) -> Response:
        return _json({"status": "loading", **loading.progress()}, 503, _RETRY_AFTER)

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> Response:
        return _json({"status": error.status, "detail": str(error)}, 503, _RETRY_AFTER)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        detail = [
            {"loc": part["loc"], "msg": explain(part), "type": part["type"]}
            for part in error.errors()[:_EXPLAINED_ERRORS]
        ]
        return _json({"detail": detail}, status_code=422)

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
