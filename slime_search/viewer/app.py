"""The HTTP application: pages to read, and nothing that changes anything."""

import ipaddress
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slime_search.errors import DataError
from slime_search.viewer.export import LIMIT, export
from slime_search.viewer.library import Library
from slime_search.viewer.pages import Pages
from slime_search.viewer.rendering import asset
from slime_search.viewer.selection import read_selection

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Answers only requests that name this machine, and sends every answer with a strict policy.

    A page of the internet whose name resolves to 127.0.0.1 could read what is served there, were it not for the Host
    header, which still has that page's name. An IP address can't be resolved to another one, so every one may stand
    there; of names only ``localhost`` and ``names`` may.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                guarded = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *guarded]}
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and self._is_here(hosts[0]):
            await self._app(scope, receive, send_guarded)
            return
        body = b"This server answers to localhost and to IP addresses; start it with --host NAME to add a name.\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send_guarded({"type": "http.response.start", "status": 421, "headers": headers})
        await send_guarded({"type": "http.response.body", "body": body})

    def _is_here(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


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
    number = fields.get("page", "")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 1


def serve(library: Library, listener: socket.socket, *, host: str) -> None:
    """Serves until SIGINT or SIGTERM, which ends it with KeyboardInterrupt.

    Args:
        host: what the user called this machine.
    """
    app = create_app(library, names={host})
    config = uvicorn.Config(app, ws="none", lifespan="off", log_level="warning", access_log=False)
    # A page that is open holds a connection, and nothing is lost with it.
    config.timeout_graceful_shutdown = 1
    uvicorn.Server(config).run(sockets=[listener])
