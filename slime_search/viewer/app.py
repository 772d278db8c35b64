"""The HTTP application: pages to read, and nothing that changes anything."""

from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from slime_search.errors import DataError
from slime_search.report.rendering import asset
from slime_search.viewer.export import LIMIT, export
from slime_search.viewer.guard import Guard
from slime_search.viewer.library import Library
from slime_search.viewer.pages import Pages
from slime_search.viewer.selection import read_selection

_OWN = Path(__file__).parent / "templates"


def create_app(library: Library, *, names: Collection[str] = ()) -> ASGIApp:
    """Builds the application.

    Args:
        names: of this machine, beside ``localhost`` and IP addresses, that a browser may call it by.
    """
    app = FastAPI(title="slime-search view", openapi_url=None, default_response_class=HTMLResponse)
    pages = Pages(library)
    styles = asset("page.css") + (_OWN / "viewer.css").read_text("utf-8")
    scripts = asset("tokens.js") + (_OWN / "viewer.js").read_text("utf-8")

    # Not async, so that a long page is rendered beside the others, in a thread.
    @app.get("/")
    def listing(request: Request) -> str:
        fields = dict(request.query_params)
        return pages.listing(read_selection(_without_page(fields)), _page(fields))

    @app.get("/rollouts/{number:int}")
    def rollout(number: int, request: Request) -> str:
        return pages.rollout(number, read_selection(dict(request.query_params)))

    @app.get("/compare")
    def comparison(request: Request) -> str:
        fields = dict(request.query_params)
        left, right, change = (fields.get(name, "") for name in ("left", "right", "change"))
        return pages.comparison(left, right, change, _page(fields))

    @app.get("/compare/{left:int}/{right:int}")
    def pair(left: int, right: int, request: Request) -> str:
        fields = dict(request.query_params)
        return pages.pair(left, right, fields.get("change", ""), _page(fields))

    @app.get("/curves")
    def curves() -> str:
        return pages.curves()

    @app.get("/export.html")
    def exported(request: Request) -> Response:
        selection = read_selection(dict(request.query_params))
        name = quote(f"{Path(library.title).stem or 'rollouts'}.html")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        return HTMLResponse(export(library, selection, limit=LIMIT), headers=headers)

    @app.get("/page.css")
    def style() -> Response:
        return Response(styles, media_type="text/css")

    @app.get("/page.js")
    def script() -> Response:
        return Response(scripts, media_type="text/javascript")

    @app.exception_handler(DataError)
    def refused(_request: Request, error: DataError) -> Response:
        return HTMLResponse(pages.error(str(error)), 422)

    @app.exception_handler(HTTPException)
    def not_found(_request: Request, error: HTTPException) -> Response:
        return HTMLResponse(pages.error(error.detail), error.status_code)

    return Guard(app, names=names)


def _without_page(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name != "page"}


def _page(fields: Mapping[str, str]) -> int:
    """The page of a list. What is no number is the first; what is out of range, the nearest."""
    told = fields.get("page", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 1
