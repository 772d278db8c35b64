"""The client of retrieval servers that speak Search-R1's ``/retrieve``."""

from typing import Any

from slime_search.core.tokens import well_formed
from slime_search.core.tool import Passage, ToolResult, check_query, passages_result
from slime_search.errors import InvalidQuery, ServiceRejected, TransientFault
from slime_search.transport.replicas import Replicas

_TOO_LARGE = frozenset({413, 414})
_QUERY_FIELDS = frozenset({"queries", "query"})


class Retriever:
    """Searches a local corpus.

    Args:
        servers: where ``/retrieve`` is answered; each holds the whole corpus.
        topk: passages a query.
        token: the servers' bearer token, if they ask for one. It travels in a header only.
    """

    def __init__(self, servers: Replicas, *, topk: int, token: str | None = None) -> None:
        self._servers = servers
        self._topk = topk
        # A server of another make ignores the first.
        self._headers = {"X-Slime-Search-Details": "cached"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def __call__(self, query: str) -> ToolResult:
        """Its details: whether the result was ``cached``, where the server tells.

        Raises:
            InvalidQuery: the query is too long, or the server refused it and not the request around it.
            ServiceError: the retriever failed after the retries, or refused the request.
        """
        check_query(query)
        payload = {"queries": [well_formed(query)], "topk": self._topk, "return_scores": False}
        try:
            passages, details = await self._servers.post(payload, _answer_to_one_query, self._headers)
        except ServiceRejected as refusal:
            if is_about_the_query(refusal):
                raise InvalidQuery(f"the query can't be searched ({refusal.reason})") from refusal
            raise
        return passages_result(tuple(passages[: self._topk]), details)


def is_about_the_query(refusal: ServiceRejected) -> bool:
    """Whether a server refused the one query that a request holds: as too large, or by naming the field it stands in.

    Servers made with FastAPI list what is wrong as ``{"detail": [{"loc": ["body", "queries", 0], …}]}``, the Searcher's
    as ``{"error": {"fields": [["queries", "0"]], …}}``.
    """
    if refusal.status in _TOO_LARGE:
        return True
    match refusal.body:
        case {"detail": [*faults]} if faults:
            return all(isinstance(fault, dict) and _is_in_query(fault.get("loc")) for fault in faults)
        case {"error": {"fields": [*paths]}} if paths:
            return all(map(_is_in_query, paths))
    return False


def _is_in_query(path: Any) -> bool:
    return isinstance(path, list) and not _QUERY_FIELDS.isdisjoint(map(str, path))


def _answer_to_one_query(body: Any) -> tuple[list[Passage], dict[str, Any]]:
    """The passages and the details."""
    match body:
        case {"result": [list(items)]}:
            passages = [_passage(item) or _passage(_document(item)) for item in items]
            if None not in passages:
                return [passage for passage in passages if passage is not None], _details(body.get("cached"))
    raise TransientFault(f"not an answer of /retrieve to one query: {str(body)[:300]}")


def _details(cached: Any) -> dict[str, Any]:
    match cached:
        case [bool(known)]:
            return {"cached": known}
    return {}


def _document(item: Any) -> Any:
    """The row of an item that came with its score."""
    return item.get("document") if isinstance(item, dict) else None


def _passage(row: Any) -> Passage | None:
    """A corpus row as a passage, read as the server reads it; None where no field of it is a text.

    ``contents`` comes first where it holds more than blanks, with the title in its first line, as Search-R1 has it.
    Otherwise the row has a ``text``, and perhaps a ``title``.
    """
    if not isinstance(row, dict):
        return None
    contents, text = row.get("contents"), row.get("text")
    if isinstance(contents, str) and (contents.strip() or not isinstance(text, str)):
        title, _, text = contents.partition("\n")
    elif isinstance(text, str):
        title = str(row.get("title") or "")
    else:
        return None
    return Passage(well_formed(title), well_formed(text))
