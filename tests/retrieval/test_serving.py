import contextlib
import http.client
import itertools
import json
import signal
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.retrieval.gated_server import ROWS, hits_of
from tests.retrieval.retrieval_process import Server
from tests.support.processes import wait_until

GATED_SERVER = Path(__file__).with_name("gated_server.py")


class GatedServer:
    """A server whose searches wait until they are let go, and clients of it."""

    def __init__(self, folder: Path, clients: ThreadPoolExecutor, server: Server) -> None:
        self.server = server
        self._folder = folder
        self._clients = clients
        server.wait_until_ready()

    def ask(self, *queries: str, **fields: Any) -> "Future[tuple[int, Any]]":
        """Sends a request and returns once the server knows of its queries, or has answered."""
        before = self.server.metrics()["queries_total"]
        answer = self._clients.submit(self.server.request, "/retrieve", {"queries": queries, **fields})
        wait_until(lambda: answer.done() or self.server.metrics()["queries_total"] == before + len(queries))
        return answer

    def searches(self) -> list[list[str]]:
        path = self._folder / "searches"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def hold_one(self) -> "Future[tuple[int, Any]]":
        """Begins a search, so that what comes next has to wait."""
        answer = self.ask("held")
        wait_until(lambda: self.searches() == [["held"]])
        return answer

    def let_go(self) -> None:
        (self._folder / "gate").touch()


def answer_to(*queries: str, topk: int = 3) -> tuple[int, Any]:
    rows = [[hit.row_index for hit in hits_of(query, topk)] for query in queries]
    return 200, {"result": [[{"id": row, "contents": f"row {row}"} for row in found] for found in rows]}


@pytest.fixture
def start(tmp_path: Path, keep_server: Callable[[Server], Server]) -> Iterator[Callable[..., GatedServer]]:
    with ThreadPoolExecutor(64) as clients:
        servers = []

        def start(**options: Any) -> GatedServer:
            server = keep_server(Server(GATED_SERVER, tmp_path, json.dumps(options)))
            servers.append(GatedServer(tmp_path, clients, server))
            return servers[-1]

        yield start
        for gated in servers:
            gated.let_go()
            gated.server.end()


def test_duplicates_in_flight_are_searched_once(start: Callable[..., GatedServer]) -> None:
    gated = start(cache_bytes=0)
    held = gated.hold_one()
    alike = [gated.ask(*queries) for queries in (["red fox"], [" red  fox"], ["red\nfox ", "hen", "red fox"], ["held"])]
    other_topk = gated.ask("hen", topk=5)
    gated.let_go()
    assert held.result() == answer_to("held")
    assert [answer.result() for answer in alike] == [
        answer_to("red fox"),
        answer_to("red fox"),
        answer_to("red fox", "hen", "red fox"),
        answer_to("held"),
    ]
    assert other_topk.result() == answer_to("hen", topk=5)
    assert gated.searches() == [["held"], ["red fox", "hen"], ["hen"]]


@pytest.mark.parametrize(("cache_bytes", "searches"), [(0, 3), (1 << 20, 1)])
def test_past_results_come_from_the_cache(start: Callable[..., GatedServer], cache_bytes: int, searches: int) -> None:
    gated = start(cache_bytes=cache_bytes)
    gated.let_go()
    answers = [gated.ask("red fox").result() for _ in range(3)]
    assert answers == [answer_to("red fox")] * 3
    assert gated.searches() == [["red fox"]] * searches
    assert gated.server.metrics()["cache_hits_total"] == 3 - searches


def test_cached_answers_are_those_of_a_search(start: Callable[..., GatedServer]) -> None:
    gated = start(cache_bytes=4096)
    gated.let_go()
    words = st.lists(st.sampled_from(["a", "b", " ", "\t"]), max_size=3).map("".join)

    @settings(deadline=None)
    @given(queries=st.lists(words, max_size=6), topk=st.integers(1, ROWS + 2))
    def check(queries: list[str], topk: int) -> None:
        answer = gated.server.request("/retrieve", {"queries": queries, "topk": topk})
        assert answer == answer_to(*(" ".join(query.split()) for query in queries), topk=topk)

    check()
    metrics = gated.server.metrics()
    assert 0 < metrics["cache_hits_total"] < metrics["queries_total"]


def test_a_full_queue_refuses_and_recovers(start: Callable[..., GatedServer]) -> None:
    gated = start(queue_size=2)
    held, waiting = gated.hold_one(), gated.ask("a", "b")
    assert gated.server.metrics()["queued_queries"] == 2
    status, headers, content = gated.server.exchange("/retrieve", {"queries": ["c"]})
    assert (status, headers["Retry-After"]) == (503, "1")
    assert json.loads(content) == {
        "status": "overloaded",
        "detail": "2 queries wait and 2 may; 1 more have no room: try again later",
    }
    assert gated.server.request("/health")[0] == gated.server.request("/ready")[0] == 200
    gated.let_go()
    assert (held.result(), waiting.result()) == (answer_to("held"), answer_to("a", "b"))
    assert gated.ask("c").result() == answer_to("c")
    assert gated.searches() == [["held"], ["a", "b"], ["c"]]


def test_overload_loses_no_request(start: Callable[..., GatedServer]) -> None:
    gated = start(queue_size=5, cache_bytes=0)
    gated.hold_one()
    answers = {str(number): gated.ask(str(number)) for number in range(30)}
    gated.let_go()
    accepted = {query: answer.result() for query, answer in answers.items() if answer.result()[0] != 503}
    assert accepted == {str(number): answer_to(str(number)) for number in range(5)}
    metrics = gated.server.metrics()
    assert (metrics['requests_total{status="200"}'], metrics['requests_total{status="503"}']) == (6, 25)
    assert metrics["queued_queries"] == 0


def test_what_waits_beyond_the_deadline_is_not_searched(start: Callable[..., GatedServer]) -> None:
    gated = start(deadline_s=1)
    held, waiting = gated.hold_one(), gated.ask("a")
    late = (503, {"status": "late", "detail": "no answer within 1 s: try again later"})
    assert (held.result(), waiting.result()) == (late, late)
    assert gated.server.metrics()["queued_queries"] == 0
    gated.let_go()
    # The search that ran at the deadline went on, and its result is kept for who tries again.
    wait_until(lambda: gated.server.request("/retrieve", {"queries": ["held"]}) == answer_to("held"))
    assert gated.ask("b").result() == answer_to("b")
    assert gated.searches() == [["held"], ["b"]]


def leave(gated: GatedServer, *queries: str) -> None:
    """Asks, and goes away as soon as the server knows of the queries."""
    before = gated.server.metrics()["queries_total"]
    client = http.client.HTTPConnection(gated.server.url.removeprefix("http://"), timeout=30)
    client.request("POST", "/retrieve", json.dumps({"queries": queries}), {"Content-Type": "application/json"})
    wait_until(lambda: gated.server.metrics()["queries_total"] == before + len(queries))
    client.close()


def test_what_nobody_waits_for_any_more_is_not_searched(start: Callable[..., GatedServer]) -> None:
    gated = start()
    held, shared = gated.hold_one(), gated.ask("a", "b")
    leave(gated, "b", "c", "d")
    wait_until(lambda: gated.server.metrics()["queued_queries"] == 2)
    assert gated.server.metrics()['requests_total{status="499"}'] == 1
    gated.let_go()
    assert (held.result(), shared.result()) == (answer_to("held"), answer_to("a", "b"))
    assert gated.searches() == [["held"], ["a", "b"]]
    assert gated.server.end() == (0, "", "")


def test_clients_that_leave_make_room_in_the_queue(start: Callable[..., GatedServer]) -> None:
    gated = start(queue_size=1)
    held = gated.hold_one()
    for number in range(20):
        leave(gated, str(number))
        wait_until(lambda: gated.server.metrics()["queued_queries"] == 0)
    last = gated.ask("last")
    gated.let_go()
    assert (held.result(), last.result()) == (answer_to("held"), answer_to("last"))
    assert gated.searches() == [["held"], ["last"]]


def test_a_client_that_leaves_within_its_request_is_no_error(start: Callable[..., GatedServer]) -> None:
    gated = start()
    gated.let_go()
    client = http.client.HTTPConnection(gated.server.url.removeprefix("http://"), timeout=30)
    client.putrequest("POST", "/retrieve")
    client.putheader("Content-Length", "100")
    client.endheaders(b'{"queries"')
    client.close()
    wait_until(lambda: gated.server.metrics().get('requests_total{status="499"}') == 1)
    assert gated.server.end() == (0, "", "")


def test_a_search_that_runs_when_its_client_leaves_is_kept_for_the_next(start: Callable[..., GatedServer]) -> None:
    gated = start()
    leave(gated, "a")
    wait_until(lambda: gated.server.metrics().get('requests_total{status="499"}') == 1)
    gated.let_go()
    assert gated.ask("a").result() == answer_to("a")
    assert gated.searches() == [["a"]]


def test_a_failed_search_is_a_500_and_the_server_goes_on(start: Callable[..., GatedServer]) -> None:
    gated = start()
    gated.let_go()
    status, _, _ = gated.server.exchange("/retrieve", {"queries": ["fail"]})
    assert status == 500
    assert gated.ask("a").result() == answer_to("a")
    assert gated.server.metrics()['requests_total{status="500"}'] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(start: Callable[..., GatedServer], number: int) -> None:
    gated = start()
    in_flight = {"held": gated.hold_one()} | {str(n): gated.ask(str(n)) for n in range(40)}
    gated.server.process.send_signal(number)
    wait_until(lambda: gated.server.request("/ready")[0] == 503)
    for _ in range(10):
        status, headers, content = gated.server.exchange("/retrieve", {"queries": ["new"]})
        assert (status, headers["Retry-After"], json.loads(content)["status"]) == (503, "1", "draining")
    assert gated.server.request("/health") == (200, {"status": "ok"})
    gated.let_go()
    assert {query: answer.result() for query, answer in in_flight.items()} == {
        query: answer_to(query) for query in in_flight
    }
    # A program that does not handle the signal ends by it.
    assert gated.server.process.wait(30) == -number
    assert [query for queries in gated.searches() for query in queries] == list(in_flight)


def test_a_signal_under_load_breaks_no_answer(corpus_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(corpus_path, "--port", "0", "--cache-mb", "0")
    server.wait_until_ready()
    expected = server.request("/retrieve", {"queries": ["red fox"], "topk": 50})
    answers: list[tuple[int, Any]] = []

    def client(number: int) -> None:
        with contextlib.suppress(urllib.error.URLError, ConnectionResetError, http.client.RemoteDisconnected):
            for turn in itertools.count():
                answers.append(server.request("/retrieve", {"queries": ["red fox", f"{number} {turn}"], "topk": 50}))

    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(client, number) for number in range(8)]
        wait_until(lambda: len(answers) > 100)
        server.process.send_signal(signal.SIGTERM)
        for ended in running:
            ended.result()
    assert server.process.wait(30) == 0
    assert {status for status, _ in answers} <= {200, 503}
    assert all(answer["result"][0] == expected[1]["result"][0] for status, answer in answers if status == 200)
    assert all(answer["status"] == "draining" for status, answer in answers if status == 503)
    assert server.end() == (0, "", "")


def test_metrics_count_what_was_served(start: Callable[..., GatedServer]) -> None:
    gated = start()
    gated.let_go()
    gated.ask("a", "b", "a").result()
    gated.ask("a").result()
    assert gated.server.request("/retrieve", {"queries": 5})[0] == 422
    gated.server.request("/health")
    metrics = gated.server.metrics()
    assert metrics['requests_total{status="200"}'] == 2
    assert metrics['requests_total{status="422"}'] == 1
    assert metrics["request_seconds_count"] == metrics['request_seconds_bucket{le="+Inf"}'] == 3
    assert (metrics["queries_total"], metrics["cache_hits_total"], metrics["queued_queries"]) == (4, 1, 0)
    assert (metrics["batch_queries_count"], metrics["batch_queries_sum"]) == (1, 2)
    _, headers, _ = gated.server.exchange("/metrics")
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=1.0.0", "a/b;version=version=", "é", ""])
def test_metrics_are_text_for_everybody(start: Callable[..., GatedServer], accept: str) -> None:
    status, headers, content = start().server.exchange("/metrics", None, {"Accept": accept})
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert b"slime_search_retriever_queued_queries 0.0" in content


def test_the_default_topk_counts_for_the_size_of_an_answer(start: Callable[..., GatedServer]) -> None:
    gated = start(default_topk=1000)
    gated.let_go()
    queries = [str(number) for number in range(263)]
    status, answer = gated.server.request("/retrieve", {"queries": queries})
    assert status == 422
    assert answer["detail"][0]["msg"].startswith("topk: 263 queries with 1000 passages each")
    assert gated.ask(*queries[1:]).result() == answer_to(*queries[1:], topk=1000)


def test_a_token_is_asked_for_and_not_told(corpus_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(corpus_path, "--port", "0", env={"SLIME_SEARCH_RETRIEVER_TOKEN": "s3cret-ü"})
    server.wait_until_ready()
    body = {"queries": ["red"]}
    for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}, {"Authorization": "Bearer"}):
        for path, content in (
            ("/retrieve", body),
            ("/retrieve", b"not JSON"),
            ("/metrics", None),
            ("//retrieve", body),
        ):
            status, headers, answer = server.exchange(path, content, sent)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "send the header 'Authorization: Bearer" in json.loads(answer)["detail"]
    right = {"Authorization": "bearer s3cret-ü".encode().decode("latin-1")}
    assert server.exchange("/retrieve", body, right)[0] == server.exchange("/metrics", None, right)[0] == 200
    assert server.request("/health")[0] == server.request("/ready")[0] == 200
    assert server.exchange("/metrics", None, right)[2].count(b's_total{status="401"} 8.0') == 1
    assert server.end() == (0, "", "")
