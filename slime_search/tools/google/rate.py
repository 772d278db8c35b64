"""A bound on requests a second."""

from collections.abc import Mapping
from typing import Any

from aiolimiter import AsyncLimiter

from slime_search.service import Send
from slime_search.tools.google.per_loop import PerLoop


class RateLimited:
    """Sends through ``send``, retries included, at most ``per_second`` times a second on each event loop."""

    def __init__(self, send: Send, *, per_second: float) -> None:
        self._send = send
        # At least one a period; a burst holds what a second allows.
        self._limiter = PerLoop(lambda: AsyncLimiter(max(per_second, 1.0), max(1.0 / per_second, 1.0)))

    async def __call__(self, url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        async with self._limiter.get():
            return await self._send(url, payload, headers)
