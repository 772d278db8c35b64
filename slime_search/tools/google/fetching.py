"""Fetches a web page, within limits and from public addresses only."""

import asyncio
from typing import NamedTuple

import aiohttp

from slime_search import __version__
from slime_search.tools.google.addresses import AddressPolicy, RefusedAddress, guard_before_proxy, guarded_socket
from slime_search.transport.per_loop import PerLoop

MAX_REDIRECTS = 5
READABLE = ("text/html", "application/xhtml+xml", "text/plain")
_HEADERS = {
    "User-Agent": f"Mozilla/5.0 (compatible; slime-search/{__version__})",
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8",
    "Accept-Encoding": "gzip, deflate",
}


class Unreadable(Exception):
    """A page can't be read; the message is one of few, to be counted."""


class Page(NamedTuple):
    body: bytes
    """Decompressed; a longer page is cut."""
    plain: bool
    """text/plain instead of HTML."""
    charset: str | None
    """What the header says."""


class Fetcher:
    """Gets pages.

    Args:
        allowed: which addresses pages may come from. It is asked at every connection, redirects included.
        max_bytes: of a page, decompressed; what is beyond is not read.
        timeout_s: seconds a page, from the first look-up to its last byte.
        concurrency: pages on their way, per event loop.
        proxy: an HTTP proxy's URL.
    """

    def __init__(
        self, *, allowed: AddressPolicy, max_bytes: int, timeout_s: float, concurrency: int, proxy: str | None
    ) -> None:
        self._allowed = allowed
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._session = PerLoop(self._new_session, close=aiohttp.ClientSession.close)
        self._turns = PerLoop(lambda: asyncio.Semaphore(concurrency))
        self._proxy = proxy

    async def fetch(self, url: str) -> Page:
        """The page at ``url``.

        Raises:
            Unreadable: it can't be had within the limits.
        """
        try:
            # Waiting for one's turn is not the page's fault, so it does not count.
            async with self._turns.get(), asyncio.timeout(self._timeout_s):
                return await self._fetch(url)
        except TimeoutError:
            raise Unreadable("too slow") from None
        except aiohttp.TooManyRedirects:
            raise Unreadable("too many redirects") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise Unreadable("not a web address") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: what some servers send as a redirect is no URL, and as a header no header.
            if isinstance(error.__cause__, RefusedAddress):
                raise Unreadable("address refused") from None
            connected = not isinstance(error, aiohttp.ClientConnectorError)
            raise Unreadable("broken answer" if connected else "no connection") from None

    async def _fetch(self, url: str) -> Page:
        session = self._session.get()
        async with session.get(url, proxy=self._proxy, max_redirects=MAX_REDIRECTS) as response:
            if response.status != 200:
                raise Unreadable(f"HTTP {response.status // 100}xx")
            if response.content_type not in READABLE:
                raise Unreadable("not a text")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) >= self._max_bytes:
                    break
            return Page(bytes(body[: self._max_bytes]), response.content_type == "text/plain", response.charset)

    def _new_session(self) -> aiohttp.ClientSession:
        guarded = None if self._proxy else guarded_socket(self._allowed)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=guarded),
            middlewares=(guard_before_proxy(self._allowed),) if self._proxy else (),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),
        )
