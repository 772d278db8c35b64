"""Reads a range of a file over HTTP, over several connections at once, and in order."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt

from slime_search.errors import TransientFault
from slime_search.retrieval.errors import DownloadError
from slime_search.transport.retrying import DOWNLOADS, retry_after_s

logger = logging.getLogger(__name__)

ATTEMPTS = 10
BLOCK_BYTES = 32 << 20
"""A request. The Hub allows 3,000 of them in five minutes."""
CONNECTIONS = 8
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


def tell(state: RetryCallState) -> None:
    """Says that an attempt failed and when the next one is, as nobody should have to guess why nothing happens."""
    error = state.outcome.exception() if state.outcome else None
    pause_s = state.next_action.sleep if state.next_action else 0.0
    logger.warning("%s (attempt %d of %d; next in %.0f s)", error, state.attempt_number, ATTEMPTS, pause_s)


async def read_blocks(
    url: str, headers: Mapping[str, str], start: int, stop: int, block_bytes: int = BLOCK_BYTES
) -> AsyncGenerator[bytes, None]:
    """Bytes ``start`` to ``stop``, block by block; up to CONNECTIONS blocks are on their way or in memory.

    Raises:
        DownloadError: the server refuses, or failed at every attempt.
    """
    waiting: deque[asyncio.Task[bytes]] = deque()
    headers = {**headers, "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(trust_env=True, headers=headers, timeout=_TIMEOUT) as session:
        try:
            for first in range(start, stop, block_bytes):
                last = min(first + block_bytes, stop) - 1
                waiting.append(asyncio.create_task(_read_patiently(session, url, first, last)))
                if len(waiting) == CONNECTIONS:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _read_patiently(session: aiohttp.ClientSession, url: str, first: int, last: int) -> bytes:
    retrying = AsyncRetrying(**DOWNLOADS.policy(stop_after_attempt(ATTEMPTS), before_sleep=tell))
    try:
        return await retrying(_read, session, url, first, last)
    except TransientFault as fault:
        raise DownloadError(
            f"{url}: {fault} ({ATTEMPTS} attempts); run the same command again, it goes on from here"
        ) from fault


async def _read(session: aiohttp.ClientSession, url: str, first: int, last: int) -> bytes:
    try:
        async with session.get(url, headers={"Range": f"bytes={first}-{last}"}) as response:
            if response.status >= 500 or response.status in (408, 429):
                raise TransientFault(f"HTTP {response.status}", retry_after_s(response.headers))
            if response.status != 206:
                refused = response.status in (401, 403)
                fix = "export an HF_TOKEN that may read it" if refused else "another HF_ENDPOINT may serve it"
                raise DownloadError(f"{url}: HTTP {response.status} to a request for a range; {fix}")
            block = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TransientFault(f"{type(error).__name__}: {error}") from error
    if len(block) != last - first + 1:
        raise TransientFault(f"{len(block):,} bytes instead of {last - first + 1:,}")
    return block
