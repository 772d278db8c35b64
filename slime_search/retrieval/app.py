"""The HTTP application: routes, answers and refusals."""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from slime_search.retrieval.batcher import Batcher
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.loading import Loading, NotLoaded
from slime_search.retrieval.protocol import RetrieveRequest, RetrieveResponse, explain
from slime_search.retrieval.retriever import Hit

_EXPLAINED_ERRORS = 3
_STILL_LOADING: dict[int | str, dict[str, Any]] = {503: {"description": "The corpus is still loading."}}


def create_app(loading: Loading, *, default_topk: int = 3) -> FastAPI:
    """Builds the application. Until ``loading`` has ended, ``/retrieve`` and ``/ready`` answer 503 and the progress."""
    app = FastAPI(title="slime-search retriever")
    batcher = Batcher(lambda queries, topk: loading.collection.retriever.search(queries, topk))

    @app.post("/retrieve", response_model=RetrieveResponse, responses=_STILL_LOADING)
    async def retrieve(request: RetrieveRequest) -> Response:
        """Finds the best passages for every query."""
        corpus = loading.collection.corpus
        hits = await batcher.search(request.queries, request.topk or default_topk)
        return _json({"result": _result(corpus, hits, request.return_scores)})

    @app.get("/health")
    async def health() -> Response:
        """The process lives, whether or not it can search yet."""
        return _json({"status": "ok"})

    @app.get("/ready", responses=_STILL_LOADING)
    async def ready() -> Response:
        """The server can search."""
        return _json({"status": "ready", "passages": len(loading.collection.corpus)})

    @app.exception_handler(NotLoaded)
    async def not_loaded(_request: Request, _error: NotLoaded) -> Response:
        response = _json({"status": "loading", **loading.progress()}, status_code=503)
        response.headers["Retry-After"] = "1"
        return response

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


def _json(content: object, status_code: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status_code, media_type="application/json")
