"""Groups the queries that arrive while a search is running."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from slime_search.retrieval.retriever import Hit, Query
from slime_search.transport.unavailable import QueueFull

MAX_BATCH_QUERIES = 256
LINGER_SHARE = 0.1
"""Of the time of a call for several queries: how long its worker then waits for as many more, at most."""

Answer = asyncio.Future[list[Hit]]


class Batcher:
    """Runs a synchronous search in worker threads for many concurrent callers.

    A query starts at once where a worker is idle. Queries that arrive while all are busy wait for one of them and then
    share its call, in order, up to ``MAX_BATCH_QUERIES`` a call; idle workers share what waits evenly. Only queries
    with the same ``topk`` share a call; the others wait for the next one.

    Args:
        search: called with texts and their ``topk``, from ``workers`` threads; answers one list of hits a text.
        queue_size: queries that may wait.
        workers: calls at once.
        on_batch: told the size of every call.
    """

    def __init__(
        self,
        search: Callable[[Sequence[str], int], list[list[Hit]]],
        *,
        queue_size: int,
        workers: int = 1,
        on_batch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._search = search
        self._queue_size = queue_size
        self._on_batch = on_batch
        self._waiting: OrderedDict[Answer, Query] = OrderedDict()
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="search")
        self._calls: set[asyncio.Task[None]] = set()
        self._searched = 0
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many queries wait for a search."""
        return len(self._waiting)

    def submit(self, queries: Sequence[Query]) -> list[Answer]:
        """Enqueues all ``queries`` or none; the future of each gets its hits, or what the search raised.

        An empty queue takes any number, so that a request that is larger than the queue is served as well.

        Raises:
            QueueFull: there is no room.
        """
        if self._waiting and len(self._waiting) + len(queries) > self._queue_size:
            raise QueueFull(
                f"{len(self._waiting)} queries wait and {self._queue_size} may; "
                f"{len(queries)} more have no room: try again later"
            )
        loop = asyncio.get_running_loop()
        answers: list[Answer] = [loop.create_future() for _ in queries]
        self._waiting.update(zip(answers, queries, strict=True))
        # What arrives in the same turn of the loop shares a call.
        loop.call_soon(self._start_calls)
        self._arrived.set()
        return answers

    def withdraw(self, answer: Answer) -> bool:
        """Takes a query out of the queue and cancels its future; False where its search has begun."""
        return self._waiting.pop(answer, None) is not None and answer.cancel()

    def _start_calls(self) -> None:
        while self._waiting and len(self._calls) < self._workers:
            # A fair share of all that is under way: a worker that took more would leave the others calls of a few.
            share = -(-(len(self._waiting) + self._searched) // self._workers)
            call = asyncio.create_task(self._call(*self._next_batch(min(share, MAX_BATCH_QUERIES))))
            self._calls.add(call)
            call.add_done_callback(self._end_call)

    def _end_call(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            self._start_calls()

    def _next_batch(self, size: int) -> tuple[list[Answer], list[str], int]:
        topk = next(iter(self._waiting.values())).topk
        alike = ((answer, query) for answer, query in self._waiting.items() if query.topk == topk)
        batch = dict(islice(alike, size))
        for answer in batch:
            del self._waiting[answer]
        self._searched += len(batch)
        return list(batch), [query.text for query in batch.values()], topk

    async def _call(self, answers: list[Answer], texts: list[str], topk: int) -> None:
        self._on_batch(len(texts))
        loop = asyncio.get_running_loop()
        start = loop.time()
        found = loop.run_in_executor(self._threads, self._search, texts, topk)
        await asyncio.wait([found])
        self._searched -= len(texts)
        error = found.exception()
        if error is None and len(found.result()) != len(texts):
            error = RuntimeError(f"the search answered {len(found.result())} of {len(texts)} queries")
        for position, answer in enumerate(answers):
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found.result()[position])
        if len(texts) > 1:
            await self._linger(len(texts), (loop.time() - start) * LINGER_SHARE)

    async def _linger(self, answered: int, limit_s: float) -> None:
        """Lets those who were just answered ask again, so that the first of them does not get a call of its own."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while len(self._waiting) < answered:
                    self._arrived.clear()
                    await self._arrived.wait()
