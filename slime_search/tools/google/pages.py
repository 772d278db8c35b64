"""What found pages say, in place of their snippets."""

import logging
from collections import Counter

from slime_search.tokens import well_formed
from slime_search.tools.google.addresses import AddressPolicy, is_public
from slime_search.tools.google.cache import Memory
from slime_search.tools.google.fetching import Fetcher, Unreadable
from slime_search.tools.google.workers import TextWorkers

logger = logging.getLogger(__name__)

_UNREADABLE_FOR_S = 3600.0


class Pages:
    """Reads pages. One that can't be read is no error: whoever asks has its snippet.

    Args:
        memory: what was read before; that a page could not be read is remembered for an hour.
        max_bytes, timeout_s, concurrency, proxy: as Fetcher has them.
        max_chars: of text a page.
        allowed: which addresses pages may come from; only tests have reason to say.

    ``outcomes`` counts why pages were not read, and those that were under "read", once each while remembered.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        max_bytes: int,
        timeout_s: float,
        concurrency: int,
        max_chars: int,
        proxy: str | None = None,
        allowed: AddressPolicy = is_public,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._memory = memory
        self._fetcher = Fetcher(
            allowed=allowed, max_bytes=max_bytes, timeout_s=timeout_s, concurrency=concurrency, proxy=proxy
        )
        self._workers = TextWorkers()
        self._max_chars = max_chars

    async def read(self, url: str, snippet: str) -> str | None:
        """The page's text where ``snippet`` is from; None where it can't be had or does not hold it."""

        async def fetch() -> bytes:
            return (await self._text(url, snippet)).encode()

        call = ("page", url, snippet, self._max_chars)
        text = await self._memory.recall(call, fetch, lambda value: float("inf") if value else _UNREADABLE_FOR_S)
        return text.decode() or None

    async def _text(self, url: str, snippet: str) -> str:
        try:
            page = await self._fetcher.fetch(url)
            text = await self._workers.text_around(page, snippet, self._max_chars)
        except Unreadable as reason:
            self._count(str(reason), url)
            return ""
        self._count("read" if text else "without the snippet", url)
        return well_formed(text)

    def _count(self, outcome: str, url: str) -> None:
        self.outcomes[outcome] += 1
        if outcome != "read":
            logger.info("google: the snippet stands for %s: %s", url, outcome)
