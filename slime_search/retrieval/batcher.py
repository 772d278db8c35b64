"""Groups the requests that arrive while a search is running."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slime_search.retrieval.retriever import Hit

MAX_BATCH_QUERIES = 256


@dataclass(frozen=True, slots=True)
class _Waiting:
    queries: Sequence[str]
    topk: int
    answer: asyncio.Future[list[list[Hit]]]


class Batcher:
    """Runs a synchronous search in a worker thread, one call at a time, for many concurrent callers.

    A request on an idle batcher starts at once. Requests that arrive during a search wait for its end and then share
    the next call, up to ``MAX_BATCH_QUERIES`` queries. Only requests with the same ``topk`` share a call.
    """

    def __init__(self, search: Callable[[Sequence[str], int], list[list[Hit]]]) -> None:
        self._search = search
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The hits of each query, in order. Raises what the search raises."""
        request = _Waiting(queries, topk, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await request.answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._next_batch())
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].queries)
        while (
            self._waiting
            and self._waiting[0].topk == batch[0].topk
            and (size := size + len(self._waiting[0].queries)) <= MAX_BATCH_QUERIES
        ):
            batch.append(self._waiting.popleft())
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        queries = [query for request in batch for query in request.queries]
        call = asyncio.ensure_future(asyncio.to_thread(self._search, queries, batch[0].topk))
        await asyncio.wait([call])
        error = call.exception()
        start = 0
        for request in batch:
            end = start + len(request.queries)
            if request.answer.cancelled():
                pass
            elif error is not None:
                request.answer.set_exception(error)
            else:
                request.answer.set_result(call.result()[start:end])
            start = end
