import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from slime_search.retrieval.batcher import Batcher
from slime_search.retrieval.retriever import Hit, Query
from slime_search.retrieval.service import SingleFlightSearches
from tests.retrieval.test_query_batcher import HeldSearch, queries

Found = dict[Query, list[Hit]]
Start = Callable[..., "asyncio.Task[Found]"]


@pytest.fixture
def search() -> HeldSearch:
    return HeldSearch()


@pytest.fixture
def kept() -> Found:
    return {}


@pytest.fixture
async def start(search: HeldSearch, kept: Found) -> AsyncIterator[Start]:
    """Starts requests for numbers while the search for 0 is held."""
    shared = SingleFlightSearches(Batcher(search, queue_size=4), kept.__setitem__)

    def start(*numbers: object) -> asyncio.Task[Found]:
        return asyncio.create_task(shared.search(queries(*numbers)))

    start(0)
    await asyncio.to_thread(search.started.wait, 30)
    yield start
    search.gate.set()


async def finish(search: HeldSearch, tasks: Sequence["asyncio.Task[Found]"]) -> list[Found | BaseException]:
    await asyncio.sleep(0)
    search.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_in_flight_is_computed_once(search: HeldSearch, start: Start, kept: Found) -> None:
    answers = await finish(search, [start(0), start(1, 2, 1), start(2, 3), start(3, 0)])
    hits = {query: [Hit(int(query.text), 1.0)] for query in queries(0, 1, 2, 3)}
    wanted = [queries(0), queries(1, 2), queries(2, 3), queries(3, 0)]
    assert answers == [{query: hits[query] for query in asked} for asked in wanted]
    assert search.calls == [(["0"], 1), (["1", "2", "3"], 1)]
    assert kept == hits


async def test_shared_queries_take_no_room(search: HeldSearch, start: Start) -> None:
    tasks = [start(1, 2, 3, 4), *(start(0, 1, 2, 3, 4) for _ in range(20)), start(5)]
    *answers, refused = await finish(search, tasks)
    assert all(isinstance(answer, dict) for answer in answers)
    assert type(refused).__name__ == "QueueFull"


async def test_a_request_that_gave_up_takes_along_only_what_nobody_else_needs(
    search: HeldSearch, start: Start, kept: Found
) -> None:
    given_up, other = start(0, 1, 2), start(2, 3)
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    again = start(1)
    assert await finish(search, [other, again]) == [
        {query: [Hit(int(query.text), 1.0)] for query in asked} for asked in (queries(2, 3), queries(1))
    ]
    assert search.calls == [(["0"], 1), (["2", "3", "1"], 1)]
    assert set(kept) == set(queries(0, 1, 2, 3))


async def test_an_error_reaches_all_who_share_it_and_is_not_kept(search: HeldSearch, start: Start, kept: Found) -> None:
    answers = await finish(search, [start("x"), start("x"), start(0)])
    assert [type(answer) for answer in answers] == [ValueError, ValueError, dict]
    assert set(kept) == set(queries(0))
    [retried] = await finish(search, [start("x")])
    assert isinstance(retried, ValueError)
    assert search.calls[-1] == (["x"], 1)


async def test_nothing_is_found_at_once(start: Start) -> None:
    assert await start() == {}
