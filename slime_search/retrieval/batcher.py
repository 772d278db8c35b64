"""Groups the queries that arrive while a search is running."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from slime_search.retrieval.retriever import Hit, Query
from slime_search.retrieval.unavailable import QueueFull

MAX_BATCH_QUERIES = 256

Answer = asyncio.Future[list[Hit]]


class Batcher:
    """Runs a synchronous search in a worker thread, one call at a time, for many concurrent callers.

    A query on an idle batcher starts at once. Queries that arrive during a search wait for its end and then share the
    next calls, in order, up to ``MAX_BATCH_QUERIES`` a call. Only queries with the same ``topk`` share a call.

    Args:
        search: called with texts and their ``topk``; answers one list of hits a text.
        queue_size: queries that may wait.
        on_batch: told the size of every call.
    """

    def __init__(
        self,
        search: Callable[[Sequence[str], int], list[list[Hit]]],
        *,
        queue_size: int,
        on_batch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._search = search
        self._queue_size = queue_size
        self._on_batch = on_batch
        self._waiting: OrderedDict[Answer, Query] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None

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
        if self._waiting and self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return answers

    def withdraw(self, answer: Answer) -> bool:
        """Takes a query out of the queue and cancels its future; False where its search has begun."""
        return self._waiting.pop(answer, None) is not None and answer.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._answer(*self._next_batch())
        finally:
            self._worker = None

    def _next_batch(self) -> tuple[list[Answer], list[str], int]:
        topk = next(iter(self._waiting.values())).topk
        answers: list[Answer] = []
        texts: list[str] = []
        while self._waiting and len(texts) < MAX_BATCH_QUERIES:
            answer, query = next(iter(self._waiting.items()))
            if query.topk != topk:
                break
            del self._waiting[answer]
            answers.append(answer)
            texts.append(query.text)
        return answers, texts, topk

    async def _answer(self, answers: list[Answer], texts: list[str], topk: int) -> None:
        self._on_batch(len(texts))
        call = asyncio.ensure_future(asyncio.to_thread(self._search, texts, topk))
        await asyncio.wait([call])
        error = call.exception()
        if error is None and len(call.result()) != len(texts):
            error = RuntimeError(f"the search answered {len(call.result())} of {len(texts)} queries")
        for position, answer in enumerate(answers):
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(call.result()[position])
