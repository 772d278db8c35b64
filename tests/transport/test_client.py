"""Requests over real HTTP: what is retried, what is not, and what an error says."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import orjson
import pytest
from aiohttp import web
from tenacity import AsyncRetrying

from slime_search.errors import ServiceError, ServiceRejected, ServiceUnavailable, TransientFault
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from tests.support.loopback import (
    Fault,
    LoopbackServer,
    cut,
    disconnect,
    hang,
    in_order,
    json_response,
    not_http,
    raw,
    status,
    truncated,
    until,
)


class Echo(LoopbackServer):
    """Answers with what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.script: Callable[[int], Fault | None] = lambda number: None
        self.latency_s = 0.0
        self.arrivals: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/echo", self._echo)]

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        fault = self.script(len(self.arrivals))
        self.arrivals.append(time.monotonic())
        self.headers.append(dict(request.headers))
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        body = orjson.loads(await request.read())
        await asyncio.sleep(self.latency_s)
        return json_response({"echo": body}) if fault is None else await fault(request, {"echo": body})


def unwrap(body: Any) -> Any:
    match body:
        case {"echo": value}:
            return value
    raise TransientFault(f"not an echo: {body}")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait before another attempt was to be; none is waited for."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr("slime_search.transport.client.AsyncRetrying", partial(AsyncRetrying, sleep=sleep))
    return seconds


def client(
    *, attempts: int = 3, concurrency: int = 8, timeout_s: float = 10.0, patience_s: float | None = None
) -> ServiceClient:
    sender = PooledSender(concurrency=concurrency, timeout_s=timeout_s)
    return ServiceClient("echo", sender, attempts=attempts, patience_s=patience_s)


def post(server: Echo, one: ServiceClient, payload: Any = None, **options: Any) -> Any:
    async def work() -> Any:
        try:
            return await one.post(f"{server.url}/echo", payload or {"x": 1}, unwrap, **options)
        finally:
            await close_sessions()

    return asyncio.run(work())


PASSING = {
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "429": status(429),
    "408": status(408),
    "425": status(425),
    "cut": cut,
    "disconnect": disconnect,
    "truncated JSON": truncated,
    "HTML": raw(b"<html>oops</html>"),
    "empty body": raw(b""),
    "NaN": raw(b'{"echo": NaN}'),
    "wrong shape": raw(b'{"something": "else"}'),
    "no object": raw(b"[1, 2]"),
    "not HTTP": not_http,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_retried_and_the_answer_comes_through(fault: Fault) -> None:
    with Echo() as server:
        server.script = in_order(fault, fault)
        assert post(server, client(), {"query": "é"}) == {"query": "é"}
        assert len(server.arrivals) == 3


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_lasting_fault_is_an_error_that_names_service_url_and_attempts(fault: Fault) -> None:
    with Echo() as server:
        server.script = lambda number: fault
        with pytest.raises(ServiceUnavailable) as caught:
            post(server, client(attempts=2))
        assert len(server.arrivals) == 2
        assert (caught.value.service, caught.value.url) == ("echo", f"{server.url}/echo")
        assert str(caught.value).startswith(f"echo at {server.url}/echo: ")
        assert "after 2 attempts" in str(caught.value)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_not_retried(code: int) -> None:
    with Echo() as server:
        server.script = lambda number: status(code, text="the field queries is missing")
        with pytest.raises(ServiceRejected, match=f"HTTP {code}: the field queries is missing"):
            post(server, client())
        assert len(server.arrivals) == 1


def test_a_server_that_is_down_is_unavailable() -> None:
    with Echo() as server:
        pass
    with pytest.raises(ServiceUnavailable, match=r"echo at .*after 2 attempts"):
        post(server, client(attempts=2))


def test_a_request_is_not_tried_again_once_its_patience_is_over() -> None:
    with Echo() as server:
        server.script = lambda number: status(500)
        with pytest.raises(ServiceUnavailable, match=r"\(after 1 attempt\)"):
            post(server, client(attempts=8, patience_s=0.0))
        assert len(server.arrivals) == 1
        with pytest.raises(ServiceUnavailable, match=r"\(after 3 attempts\)"):
            post(server, client(attempts=3, patience_s=3600.0))


def test_an_error_carries_what_the_server_said() -> None:
    with Echo() as server:
        server.script = lambda number: status(422, text='{"detail": [{"loc": ["body", "queries"]}]}')
        with pytest.raises(ServiceRejected) as caught:
            post(server, client())
    assert (caught.value.status, caught.value.body) == (422, {"detail": [{"loc": ["body", "queries"]}]})
    assert caught.value.reason.startswith("HTTP 422: ")


def test_a_server_that_hangs_is_given_up() -> None:
    with Echo() as server:
        server.script = in_order(hang)
        assert post(server, client(timeout_s=0.3)) == {"x": 1}
        assert len(server.arrivals) == 2


def test_a_long_answer_to_an_error_is_quoted_in_part() -> None:
    with Echo() as server:
        server.script = lambda number: status(400, text="x" * 5000)
        with pytest.raises(ServiceRejected) as caught:
            post(server, client())
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("7", 7.0), ("60", 60.0), ("3600", 60.0)])
def test_retry_after_is_waited_for_up_to_a_minute(value: str, seconds: float, waits: list[float]) -> None:
    with Echo() as server:
        server.script = in_order(status(503, headers={"Retry-After": value}))
        assert post(server, client()) == {"x": 1}
    assert waits == [seconds]


@pytest.mark.parametrize("value", ["soon", "Wed, 21 Oct 2037 07:28:00 GMT", "-5", "", "²", "1e9"])
def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(value: str, waits: list[float]) -> None:
    with Echo() as server:
        server.script = in_order(status(503, headers={"Retry-After": value}))
        assert post(server, client()) == {"x": 1}
    assert waits == [0.0]


def test_headers_are_sent() -> None:
    with Echo() as server:
        post(server, client(), headers={"X-SMG-Routing-Key": "session-1"})
        assert server.headers[0]["X-SMG-Routing-Key"] == "session-1"
        assert server.headers[0]["Content-Type"] == "application/json"


def test_one_loop_shares_one_pool_and_another_loop_has_its_own() -> None:
    with Echo() as server:
        one = client(concurrency=1)

        async def several() -> None:
            for _ in range(5):
                await one.post(f"{server.url}/echo", {}, unwrap)
            await close_sessions()

        asyncio.run(several())
        assert len(server.connections) == 1
        other = threading.Thread(target=lambda: asyncio.run(several()))
        other.start()
        other.join()
        assert len(server.connections) == 2
        assert len(server.arrivals) == 10


def test_loops_that_run_at_the_same_time_do_not_disturb_each_other() -> None:
    with Echo() as server:
        one, answers = client(), list[Any]()
        server.latency_s = 0.05

        def work(name: str) -> None:
            async def several() -> list[Any]:
                try:
                    return await asyncio.gather(*(one.post(f"{server.url}/echo", {name: n}, unwrap) for n in range(9)))
                finally:
                    await close_sessions()

            answers.append((name, asyncio.run(several())))

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(answers) == {name: [{name: n} for n in range(9)] for name in ("a", "b")}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_requests_are_in_flight_than_allowed(concurrency: int) -> None:
    with Echo() as server:
        server.latency_s = 0.05
        one = client(concurrency=concurrency)

        async def many() -> None:
            await asyncio.gather(*(one.post(f"{server.url}/echo", {}, unwrap) for _ in range(20)))
            await close_sessions()

        asyncio.run(many())
        assert server.peak_in_flight == concurrency
        assert len(server.arrivals) == 20


def test_waiting_for_a_free_connection_is_not_a_timeout() -> None:
    with Echo() as server:
        server.latency_s = 0.25
        one = client(concurrency=1, timeout_s=1.5, attempts=1)

        async def many() -> list[Any]:
            answers = await asyncio.gather(*(one.post(f"{server.url}/echo", {"n": n}, unwrap) for n in range(8)))
            await close_sessions()
            return list(answers)

        assert asyncio.run(many()) == [{"n": n} for n in range(8)]


def test_closing_leaves_nothing_open_and_the_next_request_opens_a_new_session() -> None:
    with Echo() as server:
        one = client()

        async def twice() -> None:
            await one.post(f"{server.url}/echo", {}, unwrap)
            await close_sessions()
            await one.post(f"{server.url}/echo", {}, unwrap)
            await close_sessions()

        asyncio.run(twice())
        assert len(server.connections) == 2


def test_a_cancelled_request_stays_cancelled() -> None:
    with Echo() as server:
        server.script = lambda number: hang

        async def cancel() -> None:
            task = asyncio.create_task(client().post(f"{server.url}/echo", {}, unwrap))
            await until(lambda: bool(server.arrivals))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await close_sessions()

        asyncio.run(cancel())
        assert len(server.arrivals) == 1


def test_a_bug_in_the_caller_is_not_retried() -> None:
    def broken(body: Any) -> Any:
        raise KeyError("a bug")

    with Echo() as server:

        async def work() -> None:
            try:
                await client().post(f"{server.url}/echo", {}, broken)
            finally:
                await close_sessions()

        with pytest.raises(KeyError, match="a bug"):
            asyncio.run(work())
        assert len(server.arrivals) == 1


def test_both_service_errors_can_be_caught_as_one() -> None:
    assert issubclass(ServiceUnavailable, ServiceError) and issubclass(ServiceRejected, ServiceError)


def test_an_error_that_a_router_repeated_counts_as_its_requests() -> None:
    with Echo() as server:
        server.script = lambda number: status(503)
        with pytest.raises(ServiceUnavailable):
            post(server, client(attempts=8).behind_router(5))
        assert len(server.arrivals) == 3


def test_a_routers_own_error_counts_once() -> None:
    with Echo() as server:
        server.script = lambda number: status(503, headers={"x-smg-error-code": "no_available_workers"})
        with pytest.raises(ServiceUnavailable):
            post(server, client(attempts=8).behind_router(5))
        assert len(server.arrivals) == 8


@pytest.mark.parametrize("attempts", [1, 2, 5, 8, 12])
@pytest.mark.parametrize("repeats", [1, 5])
def test_the_waits_are_the_same_with_and_without_a_router(
    attempts: int, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[int]()
    pause = "slime_search.transport.retrying.pause_s"
    monkeypatch.setattr(pause, lambda _, before: taken.append(before) or 0.0)
    with Echo() as server:
        server.script = lambda number: status(503)
        with pytest.raises(ServiceUnavailable):
            post(server, client(attempts=attempts).behind_router(repeats))
    assert taken == list(range(attempts - 1))
    assert len(server.arrivals) == 1 + -(-(attempts - 1) // repeats)


def test_a_broken_connection_to_a_router_is_ours_alone() -> None:
    with Echo() as server:
        server.script = lambda number: cut
        with pytest.raises(ServiceUnavailable):
            post(server, client(attempts=4).behind_router(5))
        assert len(server.arrivals) == 4


def failure(url: str, timeout_s: float = 10.0) -> str:
    """What is said of one attempt at a server that gives no answer."""

    async def work() -> str:
        try:
            with pytest.raises(ServiceUnavailable) as caught:
                await client(attempts=1, timeout_s=timeout_s).post(url, {}, unwrap)
        finally:
            await close_sessions()
        return caught.value.reason

    return asyncio.run(work())


def test_why_there_is_no_answer_is_said_in_plain_words() -> None:
    assert failure("http://127.0.0.1:9/echo").startswith("connection refused at http://127.0.0.1:9 (after")
    assert failure("http://nowhere.invalid/echo").startswith("no address is known of nowhere.invalid, at http://")
    with Echo() as server:
        server.script = lambda number: disconnect
        assert failure(f"{server.url}/echo").startswith(f"the connection was closed without an answer at {server.url}")
        server.script = lambda number: cut
        assert failure(f"{server.url}/echo").startswith(f"the answer broke off at {server.url}")
        server.script = lambda number: hang
        assert failure(f"{server.url}/echo", 0.2).startswith(f"no answer within 0.2 s at {server.url}")
