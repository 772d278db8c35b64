"""Several servers of one service: the load is shared, and what one can't do another does."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.config import load_config
from slime_search.core.tool import Passage, ToolResult
from slime_search.errors import ServiceRejected, ServiceUnavailable
from slime_search.recipes.base import search_tool
from slime_search.transport.client import close_sessions
from slime_search.transport.replicas import COOL_DOWN_S, Pool, Replica
from tests.support.loopback import Fault, hang, in_order, status, until
from tests.support.scripted_retriever import ScriptedRetriever

Search = Callable[[str], Awaitable[ToolResult]]


@pytest.fixture
def servers() -> Iterator[list[ScriptedRetriever]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ScriptedRetriever(lambda query: [f"T\n{query}"])) for _ in range(3)]


def urls(servers: list[ScriptedRetriever]) -> list[str]:
    return [server.search_url for server in servers]


def counts(servers: list[ScriptedRetriever]) -> list[int]:
    return [len(server.lookups) for server in servers]


def run(search_urls: list[str], work: Callable[[Search], Awaitable[Any]], **config: Any) -> Any:
    async def main() -> Any:
        try:
            return await work(search_tool(load_config({"local": {"search_url": search_urls}, **config})))
        finally:
            await close_sessions()

    return asyncio.run(main())


async def ask(search: Search, numbers: range, *, at_once: int, answered: list[int] | None = None) -> None:
    """Searches for every number, and checks the answers."""
    left = iter(numbers)

    async def client() -> None:
        for number in left:
            assert (await search(f"q{number}")).passages == (Passage("T", f"q{number}"),)
            if answered is not None:
                answered.append(number)

    await asyncio.gather(*(client() for _ in range(at_once)))


@pytest.mark.parametrize("at_once", [1, 60])
def test_servers_that_are_alike_get_alike_much(servers: list[ScriptedRetriever], at_once: int) -> None:
    for server in servers:
        server.latency_s = 0.1 if at_once > 1 else 0.0
    run(urls(servers), lambda search: ask(search, range(60), at_once=at_once))
    assert counts(servers) == [20, 20, 20]


def test_a_server_that_hangs_gets_no_more_than_its_share_at_once(servers: list[ScriptedRetriever]) -> None:
    servers[0].script = lambda lookup: hang

    async def work(search: Search) -> None:
        asking = asyncio.create_task(ask(search, range(500), at_once=9))
        await until(lambda: sum(counts(servers[1:])) > 100)
        asking.cancel()

    run(urls(servers), work)
    assert len(servers[0].lookups) <= 9


@pytest.mark.parametrize("fault", [status(500), status(429), status(503, headers={"Retry-After": "60"})])
def test_a_faulty_server_is_left_alone_and_costs_no_attempt(servers: list[ScriptedRetriever], fault: Fault) -> None:
    servers[1].script = lambda lookup: fault
    run(urls(servers), lambda search: ask(search, range(60), at_once=1), search_attempts=1)
    assert counts(servers) == [30, 1, 30]


def test_a_refusal_is_the_answer(servers: list[ScriptedRetriever]) -> None:
    for server in servers:
        server.script = lambda lookup: status(422, text="topk: too many")

    async def work(search: Search) -> None:
        for server in servers:
            with pytest.raises(ServiceRejected, match="topk: too many") as caught:
                await search("q")
            assert caught.value.url == server.search_url

    run(urls(servers), work)
    assert counts(servers) == [1, 1, 1]


def test_when_all_fail_the_error_names_them_all(servers: list[ScriptedRetriever]) -> None:
    for number, server in enumerate(servers):
        server.script = lambda lookup, number=number: status(500, text=f"fault {number}")

    async def work(search: Search) -> str:
        with pytest.raises(ServiceUnavailable, match="after 3 attempts") as caught:
            await search("q")
        return str(caught.value)

    message = run(urls(servers), work, search_attempts=3)
    assert [url for url in urls(servers) if url not in message] == []
    # Every server once, and one a retry.
    assert sorted(counts(servers)) == [1, 2, 2]


def test_when_all_fail_in_passing_the_retry_succeeds(servers: list[ScriptedRetriever]) -> None:
    for server in servers:
        server.script = in_order(status(500))
    run(urls(servers), lambda search: ask(search, range(1), at_once=1), search_attempts=2)
    assert sum(counts(servers)) == 4


def test_overloaded_servers_are_asked_again_when_the_first_of_them_said(servers: list[ScriptedRetriever]) -> None:
    for server, seconds in zip(servers, ("60", "1", "50"), strict=True):
        server.script = in_order(status(503, headers={"Retry-After": seconds}))
    run(urls(servers), lambda search: ask(search, range(5), at_once=1), search_attempts=2)
    assert counts(servers) == [1, 6, 1]


def test_loops_that_run_at_the_same_time_have_their_own_view(servers: list[ScriptedRetriever]) -> None:
    search = search_tool(load_config({"local": {"search_url": urls(servers)}}))

    async def work() -> None:
        await ask(search, range(30), at_once=5)
        await close_sessions()

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts(servers)) == 90


class Process:
    """A real retrieval server on a port of its own, which can be killed and started again."""

    def __init__(self, corpus: Path) -> None:
        self._corpus = corpus
        self._port = "0"
        self.start()

    def start(self) -> None:
        command = [
            "-m",
            "slime_search.cli",
            "serve-retriever",
            "--exit-with-parent",
            "--cache-mb",
            "0",
            "--port",
            self._port,
        ]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--corpus_path", self._corpus],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[3] + "/retrieve"
        self._port = self.url.split(":")[2].removesuffix("/retrieve")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_server_that_is_killed_costs_no_search_and_is_used_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slime_search.transport.replicas.COOL_DOWN_S", 0.2)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"contents": "T\\nq{number}"}}\n' for number in range(1_000)))
    processes = [Process(corpus) for _ in range(2)]

    async def work(search: Search) -> None:
        answered: list[int] = []
        running = asyncio.create_task(ask(search, range(1_000), at_once=16, answered=answered))
        await until(lambda: len(answered) > 50)
        processes[0].kill()
        await running
        await asyncio.to_thread(processes[0].start)
        processes[1].kill()
        await ask(search, range(100), at_once=16)

    try:
        run([process.url for process in processes], work, search_attempts=1, topk=1)
    finally:
        for process in processes:
            process.kill()


class Played:
    """A pool whose requests begin and end as a test says, and which checks every choice."""

    def __init__(self, size: int) -> None:
        self.pool = Pool(map(str, range(size)))
        self.now = 100.0
        self.in_flight: list[Replica] = []
        self.last_chosen = dict.fromkeys(self.pool.replicas, -1)

    def begin(self, tried: tuple[Replica, ...] = ()) -> Replica | None:
        available = [one for one in self.pool.replicas if not one.is_left_alone(self.now) and one not in tried]
        chosen = self.pool.choose(self.now, tried)
        if available:
            assert chosen is min(available, key=lambda one: (one.load(), self.last_chosen[one]))
        elif tried:
            assert chosen is None
        else:
            assert chosen is not None and chosen.back_at == min(one.back_at for one in self.pool.replicas)
        if chosen is not None:
            self.last_chosen[chosen] = 1 + max(self.last_chosen.values())
            chosen.in_flight += 1
            self.in_flight.append(chosen)
        return chosen

    def end(self, place: int, fault: bool, asked_s: float | None) -> None:
        one = self.in_flight.pop(place % len(self.in_flight))
        one.in_flight -= 1
        before = (one.suspect, one.back_at)
        if fault:
            self.pool.failed(one, self.now, asked_s)
            assert one.is_left_alone(self.now) or asked_s == 0
            left_alone_s = min(COOL_DOWN_S if asked_s is None else asked_s, 60.0)
            assert one.back_at - self.now == pytest.approx(left_alone_s)
        else:
            self.pool.answered(one, self.now)
            assert one.suspect is (before[0] and one.asked and self.now < before[1])
        assert one.back_at <= self.now + 60.0 + 1e-6


STEPS = st.one_of(
    st.tuples(st.just("begin")),
    st.tuples(st.just("end"), st.integers(0, 20), st.booleans(), st.none() | st.sampled_from([0.0, 1.0, 30.0, 1e9])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, COOL_DOWN_S, 60.0])),
)


@given(size=st.integers(1, 4), steps=st.lists(STEPS, max_size=60))
def test_any_history_leaves_the_choice_right(size: int, steps: list[tuple[Any, ...]]) -> None:
    played = Played(size)
    for what, *how in steps:
        if what == "begin":
            first = played.begin()
            assert first is not None
            tried = (first,)
            while (other := played.begin(tried)) is not None:
                tried += (other,)
        elif what == "wait":
            played.now += how[0]
        elif played.in_flight:
            played.end(*how)
    # Whatever happened, everything is in use again once the servers answer.
    while played.in_flight:
        played.end(0, False, None)
    played.now += 60.0
    for _ in range(size):
        played.begin()
        played.end(0, False, None)
    assert not any(one.suspect for one in played.pool.replicas)
    rounds = Counter(one.url for _ in range(3 * size) if (one := played.begin()) is not None)
    assert set(rounds.values()) == {3}


def test_a_server_that_is_back_gets_one_request_until_it_answers() -> None:
    pool = Pool(["a", "b"])
    first = pool.choose(0.0)
    assert first is not None
    pool.failed(first, 0.0, None)
    chosen = []
    for _ in range(5):
        one = pool.choose(COOL_DOWN_S)
        assert one is not None
        one.in_flight += 1
        chosen.append(one)
    assert chosen.count(first) == 1
    # Where no other server is left, it is better than none.
    assert pool.choose(COOL_DOWN_S, [one for one in pool.replicas if one is not first]) is first
    pool.answered(first, COOL_DOWN_S)
    assert pool.choose(COOL_DOWN_S) is first


async def test_cancelled_searches_count_no_longer(servers: list[ScriptedRetriever]) -> None:
    search = search_tool(load_config({"local": {"search_url": urls(servers)}}))
    servers[0].script = lambda lookup: hang
    hanging = asyncio.create_task(search("q"))
    await until(lambda: bool(servers[0].lookups))
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    servers[0].script = lambda lookup: None
    await ask(search, range(6), at_once=1)
    assert counts(servers) == [3, 2, 2]
    await close_sessions()
