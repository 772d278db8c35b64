"""Waits until what the Searcher depends on answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from slime_search.errors import ServiceUnavailable, SlimeSearchError

POLL_S = 1.0

Check = Callable[[], Awaitable[object]]
"""Asks a service once. Raises ServiceUnavailable while it may still come, another error when it never will."""


class WarmUp:
    """The state of a service that is not ready yet.

    Args:
        checks: by what they wait for, carried out in this order.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self.ready = False
        self.waits_for = next(iter(checks), "")
        self.reason = ""
        self.error: SlimeSearchError | None = None

    async def run(self) -> None:
        """Returns when all have answered, or when ``error`` says why one never will."""
        for name, check in self._checks.items():
            self.waits_for, self.reason = name, ""
            while True:
                try:
                    await check()
                    break
                except ServiceUnavailable as error:
                    self.reason = str(error)
                    await asyncio.sleep(POLL_S)
                except SlimeSearchError as error:
                    self.error = error
                    return
        self.ready = True
