"""Things that belong to one event loop, such as HTTP sessions: a process may run several loops, and slime does."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_made: WeakKeyDictionary[asyncio.AbstractEventLoop, dict["PerLoop[Any]", Any]] = WeakKeyDictionary()


class PerLoop(Generic[T]):
    """One ``make()`` for each event loop that asks.

    Args:
        make: makes it, on the loop.
        close: ends it, for ``close_all``.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]] | None = None) -> None:
        self._make = make
        self.close = close

    def get(self) -> T:
        """That of the running loop."""
        made = _made.setdefault(asyncio.get_running_loop(), {})
        if self not in made:
            made[self] = self._make()
        value: T = made[self]
        return value


async def close_all() -> None:
    """Closes what the running loop has that can be closed."""
    made = _made.get(asyncio.get_running_loop(), {})
    for owner in [owner for owner in made if owner.close is not None]:
        assert owner.close is not None
        await owner.close(made.pop(owner))


class SingleFlight(Generic[T]):
    """One answer that many wait for: ``ask()`` runs once at a time, and no more once an answer is kept.

    Whoever asks meanwhile shares its outcome, so that a dead server costs its retries once. A waiter that is cancelled
    does not cancel it for the others. An error is raised to all of them and not kept.

    Args:
        ask: the question.
        keeps: whether an answer is kept; another is asked for again.
    """

    def __init__(
        self, ask: Callable[[], Coroutine[Any, Any, T]], keeps: Callable[[T], bool] = lambda answer: True
    ) -> None:
        self._ask = ask
        self._keeps = keeps
        self._kept: tuple[T] | None = None
        self._under_way: PerLoop[list[asyncio.Task[T]]] = PerLoop(list)
        """None or one."""

    @property
    def known(self) -> T | None:
        """The answer that was kept, if there is one."""
        return self._kept[0] if self._kept else None

    async def get(self) -> T:
        """The answer. Raises what ``ask`` raised."""
        if self._kept is not None:
            return self._kept[0]
        under_way = self._under_way.get()
        if not under_way:
            task = asyncio.get_running_loop().create_task(self._ask())
            under_way.append(task)
            task.add_done_callback(partial(self._forget, under_way))
        answer = await asyncio.shield(under_way[0])
        if self._keeps(answer):
            self._kept = (answer,)
        return answer

    @staticmethod
    def _forget(under_way: list[asyncio.Task[T]], done: asyncio.Task[T]) -> None:
        under_way.clear()
        if not done.cancelled():
            # Nobody may be left to hear of a failure.
            done.exception()
