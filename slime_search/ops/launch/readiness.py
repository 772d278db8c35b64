"""Whether a server can be used."""

import json
import urllib.error
import urllib.request
from typing import NamedTuple

_TIMEOUT_S = 5


class Readiness(NamedTuple):
    ready: bool
    state: str
    """In a few words, to be shown."""
    is_unknown: bool = False
    """The server does not know the path."""


def ask(url: str) -> Readiness:
    """Whether ``url`` answers 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):
            return Readiness(True, "ready")
    except urllib.error.HTTPError as error:
        with error:
            return Readiness(False, _loading(error.read(), error.code), is_unknown=error.code == 404)
    except (OSError, ValueError) as error:
        return Readiness(False, _why(error))


def ask_retriever(url: str, token: str | None = None) -> Readiness:
    """Asks ``<url>/ready``, or where a retrieval server of another make does not know it, searches for one word.

    Args:
        url: of the server, without ``/retrieve``.
        token: its bearer token, if it asks for one.
    """
    answer = ask(f"{url}/ready")
    return _probe(url, token) if answer.is_unknown else answer


def _probe(url: str, token: str | None) -> Readiness:
    body = json.dumps({"queries": ["ready?"], "topk": 1, "return_scores": True}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/retrieve", body, headers), timeout=60):
            return Readiness(True, "answers a search")
    except urllib.error.HTTPError as error:
        with error:
            return Readiness(False, f"answers a search with HTTP {error.code}")
    except (OSError, ValueError) as error:
        return Readiness(False, _why(error))


def _loading(content: bytes, code: int) -> str:
    """From the progress that our server answers while it loads."""
    try:
        state = json.loads(content)
        step, done, total = state["step"], state["done"], state["total"]
    except (ValueError, KeyError, TypeError):
        return f"answers HTTP {code}"
    return f"{step} {done / total:.0%}" if total else str(step)


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return f"not reachable ({getattr(reason, 'strerror', None) or reason})"
