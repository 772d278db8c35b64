"""One question to a server, over real sockets: what is said of each answer, and that no proxy is asked for it."""

import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from slime_search.transport.addresses import is_loopback, proxy_for
from slime_search.transport.readiness import Readiness, State, ask, ask_retriever
from tests.support.loopback import LoopbackServer, json_response, says


class Server(LoopbackServer):
    """Answers ``/ready`` as it is told to, and keeps what it was asked."""

    def __init__(self, status: int = 200, body: object = None) -> None:
        super().__init__()
        self.status, self.body = status, body
        self.requests: list[tuple[str, str, str | None]] = []
        self.hosts: list[str] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, request.headers.get("Authorization")))
        self.hosts.append(request.host)
        response = json_response(self.body)
        response.set_status(self.status)
        return response


def answer_of(status: int, body: object) -> Readiness:
    with Server(status, body) as server:
        return ask(f"{server.url}/ready")


def test_a_ready_server_says_so_and_its_answer_is_kept() -> None:
    answer = answer_of(200, {"status": "ready", "passages": 3})
    assert (answer.ready, answer.state, answer.status) == (True, State.READY, 200)
    assert answer.body == {"status": "ready", "passages": 3}


@pytest.mark.parametrize(
    ("status", "body", "state", "reason"),
    [
        (503, {"status": "loading", "step": "indexing", "done": 5, "total": 10}, State.NOT_YET, "indexing 50%"),
        (503, {"status": "loading", "step": "starting", "done": 0, "total": None}, State.NOT_YET, "starting"),
        (503, {"status": "draining", "detail": "the server is about to end"}, State.NOT_YET, "about to end"),
        (503, None, State.NOT_YET, "HTTP 503"),
        (401, {"detail": "Authorization"}, State.REFUSED, "HTTP 401"),
        (404, None, State.REFUSED, "HTTP 404"),
        (500, ["no", "object"], State.REFUSED, "HTTP 500"),
    ],
)
def test_an_answer_that_is_no_yes_says_which(status: int, body: object, state: State, reason: str) -> None:
    answer = answer_of(status, body)
    assert (answer.ready, answer.answers, answer.state, answer.status) == (False, True, state, status)
    assert reason in answer.reason


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.9\r\n", b"-ERR unknown command 'GET'\r\n", b"\x15\x03\x01\x00\x02"]
)
def test_what_is_no_http_server_is_named_by_what_it_says(said: bytes) -> None:
    with says(said) as url:
        answer = ask(f"{url}/ready")
    assert (answer.state, answer.answers) == (State.NOT_HTTP, False)
    assert repr(said.decode("latin-1").strip("\r\n"))[1:-1] in answer.reason


def test_a_connection_that_ends_without_an_answer_is_not_reachable() -> None:
    with says(b"") as url:
        assert ask(url).state is State.UNREACHABLE


def test_an_answer_that_breaks_off_is_not_ready() -> None:
    with says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") as url:
        assert not ask(url).ready


def test_silence_ends_after_the_time_that_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
    assert (answer.state, answer.reason) == (State.UNREACHABLE, "not reachable (no answer within 0.05 s)")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}", "http://no.such.invalid/ready"])
def test_nobody_there_is_not_reachable(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = ask(url.format(port=port))
    assert (answer.state, answer.status) == (State.UNREACHABLE, None)
    assert answer.reason.startswith("not reachable (")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1/ready", "file:///etc/hostname", "http://[::1", ""])
def test_what_is_no_url_is_answered_and_not_opened(url: str) -> None:
    assert ask(url).state is State.UNREACHABLE


@given(st.binary(min_size=1, max_size=200).filter(lambda said: not said.startswith(b"HTTP/")))
def test_whatever_answers_nothing_is_raised(said: bytes) -> None:
    with says(said) as url:
        assert not ask(url).ready


PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A proxy that the environment names for everything."""
    with Server(502) as proxy:
        for name in PROXY_VARIABLES:
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


def test_the_environments_proxy_is_not_asked(proxied: Server) -> None:
    with Server(body={"status": "ready"}) as server:
        assert ask(f"{server.url}/ready").ready
        assert ask_retriever(server.url).ready
        command = [sys.executable, "-m", "slime_search.transport.readiness", f"{server.url}/ready"]
        subprocess.run(command, check=True)
    assert proxied.requests == []


def test_a_proxy_that_is_named_carries_what_goes_elsewhere_and_nothing_to_this_machine() -> None:
    with Server() as proxy, Server() as server:
        assert ask("http://retriever.invalid/ready", proxy=proxy.url).ready
        assert ask(f"{server.url}/ready", proxy=proxy.url).ready
    assert proxy.hosts == ["retriever.invalid"]
    assert server.hosts == [server.url.removeprefix("http://")]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "0.0.0.0"]
)
def test_this_machine_is_known_by_each_of_its_names(host: str) -> None:
    assert is_loopback(f"http://{host}:8000/ready")
    assert proxy_for(f"http://{host}:8000", "http://proxy:3128") is None


@pytest.mark.parametrize("host", ["10.0.0.5", "localhost.example.org", "example.org", "[fd00::1]"])
def test_other_machines_are_asked_through_the_proxy(host: str) -> None:
    assert proxy_for(f"http://{host}:8000", "http://proxy:3128") == "http://proxy:3128"


def test_a_retriever_of_another_make_is_searched_with_the_token() -> None:
    class Other(Server):
        async def _answer(self, request: web.Request) -> web.StreamResponse:
            self.status = 404 if request.path == "/ready" else 200
            return await super()._answer(request)

    with Other(body={"result": [[]]}) as server:
        assert ask_retriever(server.url, token="t").ready
    assert server.requests == [("GET", "/ready", "Bearer t"), ("POST", "/retrieve", "Bearer t")]


def test_a_web_page_is_no_retriever() -> None:
    with says(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>") as url:
        answer = ask_retriever(url)
    assert (answer.state, answer.reason) == (State.REFUSED, "answers, and not as a retrieval server does")


def test_a_token_is_not_sent_to_where_a_redirect_leads() -> None:
    class Moved(Server):
        async def _answer(self, request: web.Request) -> web.StreamResponse:
            await super()._answer(request)
            raise web.HTTPFound(other.url)

    with Server() as other, Moved() as server:
        assert ask(server.url, token="secret").ready
    assert other.requests == [("GET", "/", None)]


def test_the_command_line_tells_and_ends_as_scripts_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "t")
    with Server(503, {"step": "indexing", "done": 1, "total": 4}) as server:
        command = [sys.executable, "-m", "slime_search.transport.readiness", server.url, "--token-variable", "A_TOKEN"]
        ended = subprocess.run([*command, "--retriever"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, f"{server.url}: indexing 25%\n")
    assert server.requests == [("GET", "/ready", "Bearer t")]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (403, 1), (503, 1)])
def test_a_server_that_only_asks_for_a_token_is_ready_for_who_has_none(status: int, code: int) -> None:
    with Server(status) as server:
        command = [sys.executable, "-m", "slime_search.transport.readiness", server.url]
        assert subprocess.run([*command, "--without-token"], capture_output=True).returncode == code
        assert subprocess.run(command, capture_output=True).returncode == (status != 200)
