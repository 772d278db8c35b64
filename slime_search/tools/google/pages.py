"""What found pages say, in place of their snippets."""

import logging
from typing import NamedTuple

import orjson

from slime_search.core.tokens import well_formed
from slime_search.tools.google.addresses import AddressPolicy, is_public
from slime_search.tools.google.cache import Memory
from slime_search.tools.google.fetching import Fetcher, Unreadable
from slime_search.tools.google.workers import TextWorkers

logger = logging.getLogger(__name__)

READ = "read"
_UNREADABLE_FOR_S = 3600.0


class PageText(NamedTuple):
    """What a page says, and what became of reading it.

    ``outcome`` is READ, or one of few reasons why not; ``text`` is empty then.
    """

    text: str
    outcome: str


class Pages:
    """Reads pages. One that can't be read is no error: whoever asks has its snippet.

    Args:
        memory: what was read before; that a page could not be read is remembered for an hour.
        max_bytes, timeout_s, concurrency, proxy: as Fetcher has them.
        max_chars: of text a page.
        allowed: which addresses pages may come from; only tests have reason to say.
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
        self._memory = memory
        self._fetcher = Fetcher(
            allowed=allowed, max_bytes=max_bytes, timeout_s=timeout_s, concurrency=concurrency, proxy=proxy
        )
        self._workers = TextWorkers()
        self._max_chars = max_chars

    async def read(self, url: str, snippet: str) -> PageText:
        """The page's text where ``snippet`` is from."""

        async def fetch() -> bytes:
            return orjson.dumps(tuple(await self._read(url, snippet)))

        call = ("page text", url, snippet, self._max_chars)
        return PageText(*orjson.loads(await self._memory.recall(call, fetch, _good_for_s)))

    async def _read(self, url: str, snippet: str) -> PageText:
        try:
            page = await self._fetcher.fetch(url)
            text = well_formed(await self._workers.text_around(page, snippet, self._max_chars))
            outcome = READ if text else "without the snippet"
        except Unreadable as reason:
            text, outcome = "", str(reason)
        if outcome != READ:
            logger.info("google: the snippet stands for %s: %s", url, outcome)
        return PageText(text, outcome)


def _good_for_s(value: bytes) -> float:
    return float("inf") if PageText(*orjson.loads(value)).text else _UNREADABLE_FOR_S
