"""A question to a server that all trajectories share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class AskedOnce(Generic[T]):
    """``ask()``, carried out for whoever wants to know first; the answer is kept.

    All who ask meanwhile share the outcome, so that a dead server costs its retries once, and none of them takes the
    question along when it is cancelled. An error is raised to all of them and not kept.

    Args:
        ask: the question.
        keeps: whether an answer is kept; another is asked for again.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], keeps: Callable[[T], bool] = lambda answer: True) -> None:
        self._ask = ask
        self._keeps = keeps
        self._kept: list[T] = []
        self._asking: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}

    @property
    def known(self) -> T | None:
        """The answer, if it was asked for."""
        return self._kept[0] if self._kept else None

    async def __call__(self) -> T:
        if self._kept:
            return self._kept[0]
        loop = asyncio.get_running_loop()
        if loop not in self._asking:
            self._asking[loop] = loop.create_task(self._work())
            self._asking[loop].add_done_callback(lambda _: self._asking.pop(loop))
        answer = await asyncio.shield(self._asking[loop])
        if self._keeps(answer):
            self._kept = [answer]
        return answer

    async def _work(self) -> T:
        return await self._ask()
