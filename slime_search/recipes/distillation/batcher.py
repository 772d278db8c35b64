"""Requests that wait for the same limit go together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from slime_search.errors import ProtocolError, ServiceRejected, SlimeSearchError

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class Batcher(Generic[I, O]):
    """Sends items in batches, for one event loop.

    As long as fewer than ``concurrency`` batches are on their way, an item is sent at once and alone. The items that
    come while all are go together with the next batch that there is room for, so nobody waits for company.

    Args:
        send: from a batch to one answer an item.
        size: items of a batch at most.
        concurrency: batches on their way at most.
    """

    def __init__(self, send: Callable[[Sequence[I]], Awaitable[Sequence[O]]], *, size: int, concurrency: int) -> None:
        self._send = send
        self._size = size
        self._concurrency = concurrency
        self._waiting: deque[tuple[I, asyncio.Future[O]]] = deque()
        self._at_work = 0
        self._workers: set[asyncio.Task[None]] = set()  # a loop forgets tasks that nobody holds

    async def submit(self, item: I) -> O:
        """The answer to ``item``.

        Raises:
            SlimeSearchError: whatever sending raised. A batch that the service rejects, or answers in a way that can't
                be used, is sent again item by item, so that only those fail which it does that to.
        """
        answer: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        if self._at_work < self._concurrency:
            self._at_work += 1
            worker = asyncio.create_task(self._work([(item, answer)]))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        else:
            self._waiting.append((item, answer))
        return await answer

    async def _work(self, batch: list[tuple[I, asyncio.Future[O]]]) -> None:
        try:
            while batch:
                await self._answer(batch)
                batch = self._take()
        finally:
            self._at_work -= 1

    def _take(self) -> list[tuple[I, asyncio.Future[O]]]:
        batch: list[tuple[I, asyncio.Future[O]]] = []
        while self._waiting and len(batch) < self._size:
            item, answer = self._waiting.popleft()
            if not answer.done():  # whoever asked may have gone
                batch.append((item, answer))
        return batch

    async def _answer(self, batch: Sequence[tuple[I, asyncio.Future[O]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except (ServiceRejected, ProtocolError) as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for entry in batch:
                    await self._answer([entry])
        except SlimeSearchError as error:
            _fail(batch, error)
        except BaseException as error:
            # A bug, or the loop's end: those who wait must hear of it as well as the task.
            _fail(batch, error)
            raise
        else:
            for (_, answer), value in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(value)


def _fail(batch: Sequence[tuple[object, "asyncio.Future[O]"]], error: BaseException) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
