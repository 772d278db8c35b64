import asyncio
import threading
from collections.abc import Sequence

import pytest

from slime_search.retrieval.batcher import MAX_BATCH_QUERIES, Answer, Batcher
from slime_search.retrieval.retriever import Hit, Query
from slime_search.transport.unavailable import QueueFull


class HeldSearch:
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


def queries(*numbers: object, topk: int = 1) -> list[Query]:
    return [Query(str(number), topk) for number in numbers]


async def busy_batcher(search: HeldSearch, queue_size: int = 10_000) -> tuple[Batcher, list[Answer]]:
    """A batcher whose search for query 0 is held."""
    batcher = Batcher(search, queue_size=queue_size)
    answers = batcher.submit(queries(0))
    assert await asyncio.to_thread(search.started.wait, 30)
    return batcher, answers


async def test_queries_that_wait_share_a_call_and_get_their_own_answers() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search)
    answers += [answer for n in range(1, 40) for answer in batcher.submit(queries(n, n + 1))]
    search.gate.set()
    asked = [str(number) for n in range(1, 40) for number in (n, n + 1)]
    assert await asyncio.gather(*answers) == [[Hit(int(number), 1.0)] for number in ["0", *asked]]
    assert search.calls == [(["0"], 1), (asked, 1)]


async def test_different_topk_never_share_a_call() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search)
    for number, topk in ((1, 1), (2, 9), (3, 9), (4, 1)):
        answers += batcher.submit(queries(number, topk=topk))
    search.gate.set()
    assert [hits[0].score for hits in await asyncio.gather(*answers)] == [1.0, 1.0, 9.0, 9.0, 1.0]
    assert search.calls == [(["0"], 1), (["1", "4"], 1), (["2", "3"], 9)]


async def test_a_call_is_bounded() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search)
    answers += batcher.submit(queries(*range(2 * MAX_BATCH_QUERIES - 1)))
    answers += batcher.submit(queries(7, 8))
    search.gate.set()
    await asyncio.gather(*answers)
    assert [len(texts) for texts, _ in search.calls] == [1, MAX_BATCH_QUERIES, MAX_BATCH_QUERIES, 1]


async def test_an_error_reaches_every_query_of_its_call_and_the_next_call_works() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search)
    answers += batcher.submit(queries(1, "not a number")) + batcher.submit(queries(2, topk=2))
    search.gate.set()
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(answer) for answer in found] == [list, ValueError, ValueError, list]


async def test_a_search_that_answers_too_few_queries_is_an_error_and_leaves_nobody_waiting() -> None:
    batcher = Batcher(lambda texts, topk: [[]], queue_size=10)
    outcomes = await asyncio.gather(*batcher.submit(queries(1, 2)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the search answered 1 of 2 queries"] * 2
    assert await asyncio.gather(*batcher.submit(queries(3))) == [[]]


async def test_the_queue_takes_what_fits_or_nothing() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search, queue_size=3)
    answers += batcher.submit(queries(1, 2))
    with pytest.raises(QueueFull, match="2 queries wait and 3 may; 2 more have no room"):
        batcher.submit(queries(3, 4))
    assert batcher.waiting == 2
    answers += batcher.submit(queries(5))
    search.gate.set()
    await asyncio.gather(*answers)
    assert search.calls == [(["0"], 1), (["1", "2", "5"], 1)]


async def test_an_empty_queue_takes_a_request_that_is_larger_than_the_queue() -> None:
    search = HeldSearch()
    batcher, answers = await busy_batcher(search, queue_size=1)
    answers += batcher.submit(queries(1, 2, 3))
    search.gate.set()
    assert len(await asyncio.gather(*answers)) == 4


async def test_a_withdrawn_query_makes_room_and_is_not_searched() -> None:
    search = HeldSearch()
    batcher, [running] = await busy_batcher(search, queue_size=2)
    first, second = batcher.submit(queries(1, 2))
    assert batcher.withdraw(first)
    assert not batcher.withdraw(running)
    third = batcher.submit(queries(3))
    search.gate.set()
    await asyncio.gather(running, second, *third)
    assert first.cancelled()
    assert search.calls == [(["0"], 1), (["2", "3"], 1)]


async def test_withdrawing_everything_leaves_a_batcher_that_works() -> None:
    search = HeldSearch()
    search.gate.set()
    batcher = Batcher(search, queue_size=1)
    [withdrawn] = batcher.submit(queries(1))
    assert batcher.withdraw(withdrawn)
    await asyncio.sleep(0)
    assert await asyncio.gather(*batcher.submit(queries(2))) == [[Hit(2, 1.0)]]
    assert search.calls == [(["2"], 1)]


async def test_idle_workers_share_what_waits_and_answers_stay_with_their_queries() -> None:
    both_busy = threading.Barrier(2, timeout=30)
    calls: list[int] = []

    def search(texts: Sequence[str], topk: int) -> list[list[Hit]]:
        calls.append(len(texts))
        both_busy.wait()
        return [[Hit(int(text), 1.0)] for text in texts]

    batcher = Batcher(search, queue_size=100, workers=2)
    answers = batcher.submit(queries(*range(9)))
    assert await asyncio.gather(*answers) == [[Hit(number, 1.0)] for number in range(9)]
    assert sorted(calls) == [4, 5]


async def test_a_worker_that_fails_leaves_the_other_alone() -> None:
    def search(texts: Sequence[str], topk: int) -> list[list[Hit]]:
        if topk == 1:
            raise OSError("gone")
        return [[Hit(int(text), 1.0)] for text in texts]

    batcher = Batcher(search, queue_size=100, workers=2)
    bad, good = batcher.submit([Query("0", 1), Query("1", 2)])
    assert await good == [Hit(1, 1.0)]
    with pytest.raises(OSError, match="gone"):
        await bad
    assert await batcher.submit([Query("2", 2)])[0] == [Hit(2, 1.0)]


async def test_a_worker_takes_no_more_than_its_share() -> None:
    search = HeldSearch()
    batcher = Batcher(search, queue_size=100, workers=2)
    answers = batcher.submit(queries(0))
    assert await asyncio.to_thread(search.started.wait, 30)
    answers += batcher.submit(queries(*range(1, 64)))
    await asyncio.sleep(0)
    search.gate.set()
    await asyncio.gather(*answers)
    assert [len(texts) for texts, _ in search.calls][:2] == [1, 32]
    assert sum(len(texts) for texts, _ in search.calls) == 64


async def test_those_who_were_just_answered_share_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the calls are, here their worker waits for as long as it takes the clients to ask again."""
    monkeypatch.setattr("slime_search.retrieval.batcher.LINGER_SHARE", 1e9)
    calls: list[list[str]] = []

    def search(texts: Sequence[str], topk: int) -> list[list[Hit]]:
        calls.append(list(texts))
        return [[Hit(int(text), 1.0)] for text in texts]

    batcher = Batcher(search, queue_size=100)

    async def client(*numbers: int) -> None:
        for number in numbers:
            await batcher.submit(queries(number))[0]
            # Reading an answer takes some turns of the loop, one client longer than the other.
            for _ in range(10 * (number % 10)):
                await asyncio.sleep(0)

    await asyncio.gather(client(1, 11), client(2, 12), client(3, 13))
    assert [sorted(texts) for texts in calls] == [["1", "2", "3"], ["11", "12", "13"]]
