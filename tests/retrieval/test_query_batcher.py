import asyncio
import threading
from collections.abc import Sequence

import pytest

from slime_search.retrieval.batcher import MAX_BATCH_QUERIES, Batcher
from slime_search.retrieval.retriever import Hit


class GatedSearch:
    """Answers ``str(n)`` with row n, once the gate is open; keeps what it was called with."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.gate = threading.Event()
        self.calls: list[tuple[list[str], int]] = []

    def __call__(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        self.calls.append((list(queries), topk))
        self.started.set()
        assert self.gate.wait(30)
        return [[Hit(int(query), float(topk))] for query in queries]


async def ask(search: GatedSearch, requests: list[tuple[list[str], int]]) -> list[object]:
    """Sends the first request and, while its search is held, the others; then lets the searches end."""
    batcher = Batcher(search)
    tasks = [asyncio.create_task(batcher.search(*requests[0]))]
    assert await asyncio.to_thread(search.started.wait, 30)
    tasks += [asyncio.create_task(batcher.search(queries, topk)) for queries, topk in requests[1:]]
    await asyncio.sleep(0)
    search.gate.set()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_requests_that_wait_share_a_call_and_get_their_own_answers() -> None:
    search = GatedSearch()
    requests = [([str(n)] * (n % 3), 5) for n in range(1, 40)]
    answers = await ask(search, requests)
    assert answers == [[[Hit(int(query), 5.0)] for query in queries] for queries, _ in requests]
    assert search.calls[0] == requests[0]
    assert search.calls[1] == ([query for queries, _ in requests[1:] for query in queries], 5)
    assert len(search.calls) == 2


async def test_different_topk_never_share_a_call() -> None:
    search = GatedSearch()
    answers = await ask(search, [(["1"], 3), (["2"], 3), (["3"], 9), (["4"], 3)])
    assert search.calls == [(["1"], 3), (["2"], 3), (["3"], 9), (["4"], 3)]
    assert answers == [[[Hit(1, 3.0)]], [[Hit(2, 3.0)]], [[Hit(3, 9.0)]], [[Hit(4, 3.0)]]]


async def test_a_call_is_bounded_unless_one_request_is_larger() -> None:
    search = GatedSearch()
    large = [str(n) for n in range(MAX_BATCH_QUERIES + 1)]
    await ask(search, [(["0"], 1), (["0"], 1), (large, 1), (large[:-2], 1), (["0"], 1), (["0"], 1)])
    assert [len(queries) for queries, _ in search.calls] == [1, 1, MAX_BATCH_QUERIES + 1, MAX_BATCH_QUERIES, 1]


async def test_an_error_reaches_every_request_of_its_call_and_the_next_call_works() -> None:
    search = GatedSearch()
    answers = await ask(search, [(["1"], 1), (["2"], 1), (["not a number"], 1), (["3"], 2)])
    assert [type(answer) for answer in answers] == [list, ValueError, ValueError, list]


async def test_a_request_that_gave_up_does_not_disturb_the_others() -> None:
    search = GatedSearch()
    batcher = Batcher(search)
    first, second = (asyncio.create_task(batcher.search([query], 1)) for query in ("1", "2"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    search.gate.set()
    assert await second == [[Hit(2, 1.0)]]
