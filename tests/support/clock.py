"""An event loop whose time passes without anybody waiting for it, so that seconds can be compared exactly."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Where the loop would sleep until its next timer, that time is there at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        self.now += timeout
        return super().select(0)


def run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` from second 0 of ``loop.time()`` on. It may sleep as long as it likes, and does no I/O."""
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work)
