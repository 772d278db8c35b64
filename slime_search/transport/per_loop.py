"""Things that belong to one event loop; a process may run several."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One ``make()`` for each event loop that asks."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            self._made[loop] = self._make()
        return self._made[loop]


class SingleFlight(Generic[T]):
    """One answer that many wait for: ``ask()`` runs once at a time, and no more after it succeeded.

    Whoever asks meanwhile shares its outcome, so that a dead server costs its retries once. A waiter that is cancelled
    does not cancel it for the others.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._answer: tuple[T] | None = None
        self._under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[T]] = WeakKeyDictionary()

    async def get(self) -> T:
        """The answer. Raises what ``ask`` raised."""
        if self._answer is None:
            loop = asyncio.get_running_loop()
            task = self._under_way.get(loop)
            if task is None:
                task = self._under_way[loop] = loop.create_task(self._ask())
                task.add_done_callback(partial(self._forget, loop))
            self._answer = (await asyncio.shield(task),)
        return self._answer[0]

    def _forget(self, loop: asyncio.AbstractEventLoop, done: asyncio.Task[T]) -> None:
        del self._under_way[loop]
        if not done.cancelled():
            # Nobody may be left to hear of a failure.
            done.exception()
