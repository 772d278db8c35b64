"""The client of retrieval servers that speak Search-R1's ``/retrieve``."""

from typing import Any

from slime_search.core.tokens import well_formed
from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.errors import TransientFault
from slime_search.transport.replicas import Replicas


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
        """Its details: whether the result was ``cached``, where the server tells."""
        payload = {"queries": [well_formed(query)], "topk": self._topk, "return_scores": False}
        rows, details = await self._servers.post(payload, _answer_to_one_query, self._headers)
        return passages_result(tuple(map(_passage, rows[: self._topk])), details)


def _answer_to_one_query(body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the details."""
    match body:
        case {"result": [list(items)]}:
            rows = [item.get("document", item) if isinstance(item, dict) else item for item in items]
            if all(isinstance(row, dict) and isinstance(row.get("contents", row.get("text")), str) for row in rows):
                return rows, _details(body.get("cached"))
    raise TransientFault(f"not an answer of /retrieve to one query: {str(body)[:300]}")


def _details(cached: Any) -> dict[str, Any]:
    match cached:
        case [bool(one)]:
            return {"cached": one}
    return {}


def _passage(row: dict[str, Any]) -> Passage:
    """A corpus row as a passage; in ``contents`` the first line is the title, as Search-R1 has it."""
    if "contents" in row:
        title, _, text = row["contents"].partition("\n")
    else:
        title, text = str(row.get("title") or ""), row["text"]
    return Passage(well_formed(title), well_formed(text))
