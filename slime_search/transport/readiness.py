"""Whether a server can be used: one short question, whose answer is a value and never an exception.

``python -m slime_search.transport.readiness URL`` asks from a script: it prints what was found and ends with 0 where
the server is ready, else with 1.
"""

import argparse
import http.client
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from slime_search.transport.addresses import proxy_for

_TIMEOUT_S = 5.0
_SEARCH_TIMEOUT_S = 60.0
_READ_BYTES = 1 << 20
_SHOWN_CHARS = 60


class State(StrEnum):
    """What became of the question."""

    READY = "ready"
    """The answer has a status below 400."""
    NOT_YET = "not yet"
    """HTTP 503: the server works, and can't be used for now, because it loads, ends or lacks what it needs."""
    REFUSED = "refused"
    """Another status: a wrong path, a token that is missing, a fault of the server."""
    NOT_HTTP = "not HTTP"
    """Something listens there that is no HTTP server."""
    UNREACHABLE = "unreachable"
    """Nothing listens there, the name is unknown, or the connection ends without an answer or in silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The answer of the server at ``url``."""

    url: str
    state: State
    reason: str
    """In a few words, to be shown."""
    status: int | None = None
    """The HTTP status, where there is one."""
    body: Any = None
    """What the answer's JSON holds; None where there is no answer, or none in JSON."""

    @property
    def ready(self) -> bool:
        """Whether the server can be used."""
        return self.state is State.READY

    @property
    def answers(self) -> bool:
        """Whether there is an HTTP server."""
        return self.status is not None

    def __str__(self) -> str:
        return self.reason


def ask(
    url: str,
    *,
    payload: Mapping[str, Any] | None = None,
    token: str | None = None,
    proxy: str | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Readiness:
    """Sends one request, GET or, with a ``payload``, POST. Nothing is retried, and no proxy of the environment is used.

    Args:
        url: with its path, such as ``http://127.0.0.1:8000/ready``.
        payload: sent as JSON.
        token: sent as a bearer token.
        proxy: the URL of an HTTP proxy, for servers that are not on this machine.
        timeout_s: seconds to wait for a connection, and for each next part of the answer.
    """
    try:
        with _opener(url, proxy).open(_request(url, payload, token), timeout=timeout_s) as response:
            status, content = response.status, response.read(_READ_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(url, error.code, _read_anyhow(error))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _no_answer(url, error, timeout_s)
    return Readiness(url=url, state=State.READY, reason="ready", status=status, body=_json(content))


def ask_retriever(url: str, *, token: str | None = None, proxy: str | None = None) -> Readiness:
    """Asks for ``<url>/ready``, and where a retrieval server of another make does not know that, searches for a word.

    A web page at the address, which answers whatever it is asked, is not ready.

    Args:
        url: of the server, without ``/retrieve``.
        token: its bearer token, if it asks for one.
        proxy: as ``ask`` takes it.
    """
    answer = ask(f"{url}/ready", token=token, proxy=proxy)
    if answer.status not in (404, 405) and not (answer.ready and answer.body is None):
        return answer
    payload = {"queries": ["ready?"], "topk": 1, "return_scores": True}
    found = ask(f"{url}/retrieve", payload=payload, token=token, proxy=proxy, timeout_s=_SEARCH_TIMEOUT_S)
    if found.ready and not (isinstance(found.body, dict) and "result" in found.body):
        return replace(found, state=State.REFUSED, reason="answers, and not as a retrieval server does")
    return found


def _opener(url: str, proxy: str | None) -> urllib.request.OpenerDirector:
    # The handler stands in for urllib's own, which would read the environment's proxies.
    proxies = {"http": proxy, "https": proxy} if (proxy := proxy_for(url, proxy)) else {}
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))


def _request(url: str, payload: Mapping[str, Any] | None, token: str | None) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        raise ValueError("no URL of an HTTP server: write one such as http://127.0.0.1:8000")
    request = urllib.request.Request(url)
    if payload is not None:
        request.data = json.dumps(payload).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        # Not sent on to wherever a redirect leads.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _read_anyhow(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(_READ_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _refused(url: str, status: int, content: bytes) -> Readiness:
    body = _json(content)
    state = State.NOT_YET if status == 503 else State.REFUSED
    return Readiness(url=url, state=state, reason=_progress(body) or f"answers HTTP {status}", status=status, body=body)


def _progress(body: Any) -> str | None:
    """How far a server is that loads, or why it does not answer, as ours say it."""
    match body:
        case {"step": str(step), "done": int() | float() as done, "total": int() | float() as total} if total:
            return f"{step} {done / total:.0%}"
        case {"step": str(step)}:
            return step
        case {"status": str(), "detail": str(detail)}:
            return detail
    return None


def _no_answer(url: str, error: Exception, timeout_s: float) -> Readiness:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.RemoteDisconnected):
        said = str(cause)[:_SHOWN_CHARS] if isinstance(cause, http.client.BadStatusLine) else type(cause).__name__
        reason = f"not reachable: what answers there is no HTTP server ({said!r})"
        return Readiness(url=url, state=State.NOT_HTTP, reason=reason)
    if isinstance(cause, TimeoutError):
        why = f"no answer within {timeout_s:g} s"
    elif isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "") or f"no HTTPS there: {cause.reason}"
    else:
        why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return Readiness(url=url, state=State.UNREACHABLE, reason=f"not reachable ({why})")


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def main() -> None:
    """The command line that scripts use."""
    parser = argparse.ArgumentParser(description="Ask whether a server is ready.")
    parser.add_argument("url", help="with its path, such as http://127.0.0.1:8000/ready")
    parser.add_argument("--retriever", action="store_true", help="a retrieval server's URL, without /retrieve")
    parser.add_argument("--token-variable", metavar="NAME", help="the environment variable that holds the token")
    parser.add_argument(
        "--without-token",
        action="store_true",
        help="a server that answers 401, because it asks for a token, is ready too; one that loads must not answer so",
    )
    options = parser.parse_args()
    token = os.environ.get(options.token_variable) if options.token_variable else None
    answer = (ask_retriever if options.retriever else ask)(options.url, token=token)
    sys.stdout.write(f"{options.url}: {answer.reason}\n")
    sys.exit(not (answer.ready or (options.without_token and answer.status == 401)))


if __name__ == "__main__":
    main()
