"""Gives up the work for a client that has gone away."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away. The request's body has been read.

    Work that ends without waiting, as a search that the cache answers, pays nothing for it.

    Raises:
        ClientGone: the client went away.
        Exception: what ``work`` raised.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        connected.reschedule(loop.time())

    def begin_to_watch() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    beginning = loop.call_soon(begin_to_watch)
    connected = asyncio.timeout(None)
    try:
        async with connected:
            return await work
    except TimeoutError:
        if connected.expired():
            raise ClientGone from None
        raise
    finally:
        beginning.cancel()
        if watcher is not None:
            watcher.cancel()
