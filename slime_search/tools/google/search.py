"""Google search as a tool."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from slime_search.tools.base import Passage, ToolResult, passages_result
from slime_search.tools.google.serper import Hit, Serper

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

    @property
    def page_outcomes(self) -> Counter[str]:
        """How many pages were "read", and how many were not, by the reason why their snippets stood in."""
        return self._pages.outcomes if self._pages else Counter()

    async def __call__(self, query: str) -> ToolResult:
        hits = await self._serper.search(query, self._topk)
        return passages_result(tuple(await asyncio.gather(*map(self._passage, hits))))

    async def _passage(self, hit: Hit) -> Passage:
        text = await self._pages.read(hit.link, hit.snippet) if self._pages else None
        return Passage(hit.title, text or hit.snippet)
