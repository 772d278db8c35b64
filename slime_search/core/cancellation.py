"""Waiting for something long, while the rollout may be called off."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from slime_search.errors import Interrupted

T = TypeVar("T")

POLL_S = 0.25


async def unless_called_off(cancelled: Callable[[], bool], work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when ``cancelled`` says so; it is asked a few times a second.

    Raises:
        Interrupted: the rollout was called off first.
        Exception: what ``work`` raised.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_S)
            if not task.done() and cancelled():
                raise Interrupted("the rollout was called off")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
