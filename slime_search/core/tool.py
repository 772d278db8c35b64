"""The socket for tools: an async callable from a query to a result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from slime_search.errors import InvalidQuery

MAX_QUERY_CHARS = 16_384
"""Characters of a query that the package's services take; a tool's own limit may be lower."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved text. ``title`` may be empty."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned.

    ``blocks`` is the text that the model gets to read, in order; a budget may drop blocks from the end, but keeps each
    one whole where it can. ``passages`` is the evidence behind it, for rewards and reports. ``details`` is what else
    the tool tells of this call, as plain JSON, for metrics and reports.
    """

    blocks: tuple[str, ...]
    passages: tuple[Passage, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Tool(Protocol):
    async def __call__(self, query: str) -> ToolResult:
        """Answers one query.

        Raises:
            ServiceError: the tool's service failed after its retries. Never returned as a result.
            InvalidQuery: the query itself can't be answered. The agent corrects it like any other invalid action.
        """
        ...


def check_query(query: str, max_chars: int = MAX_QUERY_CHARS) -> None:
    """Raises InvalidQuery where ``query`` is longer than ``max_chars``, before a service is asked."""
    if len(query) > max_chars:
        raise InvalidQuery(f"the query has {len(query)} characters, and {max_chars} are allowed")


def passages_result(passages: tuple[Passage, ...], details: Mapping[str, Any] | None = None) -> ToolResult:
    """Passages in Search-R1's wording, one block a passage: ``Doc 1(Title: …) …``."""
    blocks = (f"Doc {rank}(Title: {p.title}) {p.text}\n" for rank, p in enumerate(passages, start=1))
    return ToolResult(blocks=tuple(blocks), passages=passages, details=details or {})
