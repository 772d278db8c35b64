"""Google search as a tool."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.tools.google.serper import Serper

if TYPE_CHECKING:
    from slime_search.tools.google.pages import Pages


class GoogleSearch:
    """Searches the web.

    Args:
        serper: finds pages.
        topk: results a query.
        pages: reads what the pages say where the snippets are from; None for the snippets alone.
    """

    def __init__(self, serper: Serper, *, topk: int, pages: "Pages | None" = None) -> None:
        self._serper = serper
        self._topk = topk
        self._pages = pages

    async def __call__(self, query: str) -> ToolResult:
        """Its details: whether the result was ``cached``, and how many ``pages`` ended how, by outcome."""
        hits, cached = await self._serper.search(query, self._topk)
        if self._pages is None:
            passages = tuple(Passage(hit.title, hit.snippet) for hit in hits)
            return passages_result(passages, {"cached": cached})
        pages = await asyncio.gather(*(self._pages.read(hit.link, hit.snippet) for hit in hits))
        passages = tuple(Passage(hit.title, page.text or hit.snippet) for hit, page in zip(hits, pages, strict=True))
        outcomes = dict(Counter(page.outcome for page in pages))
        return passages_result(passages, {"cached": cached, "pages": outcomes})
