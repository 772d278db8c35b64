"""Waiting for something long in a rollout that may be cancelled meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slime_search.errors import Interrupted

T = TypeVar("T")

POLL_S = 0.25
"""How often a rollout that waits looks whether it was cancelled. The trainer sets a flag and calls nobody."""


async def unless_cancelled(cancelled: Callable[[], bool], work: Awaitable[T], *, grace_s: float = 0.0) -> T:
    """The result of ``work``, which is stopped once ``cancelled`` is true and ``grace_s`` more seconds have passed.

    Work that ends within POLL_S costs a timer and no task.

    Raises:
        Interrupted: the rollout was cancelled before ``work`` ended.
        Exception: what ``work`` raised.
    """
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)

    timer: asyncio.TimerHandle

    def look() -> None:
        if cancelled():
            scope.reschedule(loop.time() + grace_s)
        else:
            look_later()

    def look_later() -> None:
        nonlocal timer
        timer = loop.call_later(POLL_S, look)

    look_later()
    try:
        async with scope:
            return await work
    except TimeoutError:
        if scope.expired():
            raise Interrupted("the rollout was cancelled") from None
        raise
    finally:
        timer.cancel()
