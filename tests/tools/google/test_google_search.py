"""Google search by serper.dev: every answer becomes passages or a typed error, and no query is paid twice."""

import asyncio
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slime_search.config import load_config
from slime_search.core.tool import Passage, ToolResult
from slime_search.errors import ConfigError, ServiceError, ServiceUnavailable
from slime_search.recipes.base import search_tool
from slime_search.tools.google.search import GoogleSearch
from slime_search.tools.google.serper import RateLimited
from slime_search.transport.client import close_sessions
from tests.support.clock import run_at_once
from tests.support.loopback import Fault, in_order, raw, status
from tests.support.scripted_web import KEY, Serper


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slime-search"


NOTHING = ToolResult((), (), {"cached": False})


def search(*queries: str, **config: Any) -> list[ToolResult]:
    """The results of queries that are asked at once."""

    async def work() -> list[ToolResult]:
        tool = search_tool(load_config({"search_backend": "google", "search_attempts": 2, **config}))
        try:
            return await asyncio.gather(*map(tool, queries))
        finally:
            await close_sessions()

    return asyncio.run(work())


def section_of(server: Serper, key: str | None = KEY, **settings: Any) -> dict[str, Any]:
    return {"endpoint": f"{server.url}/search", **({"api_key": key} if key else {}), **settings}


def google(server: Serper, query: str = "who", *, key: str | None = KEY, **config: Any) -> ToolResult:
    (result,) = search(query, google=section_of(server, key), **config)
    return result


def test_google_snippets_are_passages() -> None:
    with Serper() as server:
        server.answer["organic"] = [
            {"title": "Hamlet", "link": "http://x", "snippet": "A tragedy."},
            {"title": "No snippet"},
            {"snippet": "No title."},
            {"title": "Fourth", "snippet": "Beyond topk."},
        ]
        result = google(server, "who \ud800", topk=2)
        assert result.passages == (Passage("Hamlet", "A tragedy."), Passage("", "No title."))
        ((url, headers, body),) = server.requests
        assert headers["X-API-KEY"] == KEY and KEY not in url
        assert body == {"q": "who \ufffd", "num": 2}


def test_google_may_find_nothing() -> None:
    with Serper() as server:
        server.answer = {"searchParameters": {"q": "who"}}
        assert google(server) == NOTHING


@pytest.mark.parametrize("answer", [{}, [], None, {"organic": None}, {"message": "quota"}])
def test_another_answer_of_google_is_an_error(answer: Any) -> None:
    with Serper() as server:
        server.answer = answer
        with pytest.raises(ServiceUnavailable, match=r"not an answer of serper\.dev"):
            google(server)


@pytest.mark.parametrize("fault", [None, status(500), status(403, text="forbidden"), raw(b"<html>")])
def test_the_key_is_in_no_error_log_or_representation(fault: Fault | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    config = load_config({"search_backend": "google", "google": {"api_key": KEY}})
    texts = [repr(config), str(config), repr(search_tool(config)), config.model_dump_json()]
    with Serper() as server:
        server.fault = fault
        try:
            google(server)
        except ServiceError as error:
            texts += [str(error), repr(error), repr(error.__cause__)]
        assert len(server.requests) in (1, 2)
    logging.getLogger("test").debug("the log is read")
    assert "the log is read" in caplog.text
    assert not [text for text in (*texts, caplog.text) if KEY in text]


def test_a_wrong_key_is_refused_once_and_not_shown() -> None:
    wrong = "wrong-key-987654321"
    with Serper() as server:
        with pytest.raises(ServiceError, match=r"serper\.dev.*403.*Unauthorized") as caught:
            google(server, key=wrong)
        assert len(server.requests) == 1
        assert wrong not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPER_API_KEY", KEY)
    with Serper() as server:
        assert google(server, key=None) == NOTHING
        assert google(server, "whom", key="your_api_key_here") == NOTHING
        assert len(server.requests) == 2


@pytest.mark.parametrize("key", [None, "your_api_key_here", ""])
def test_google_without_a_key_is_refused_before_anything_runs(key: str | None) -> None:
    section = {} if key is None else {"api_key": key}
    with pytest.raises(ConfigError, match=r"google\.api_key: .*export SERPER_API_KEY"):
        search_tool(load_config({"search_backend": "google", "google": section}))


ORGANIC = [{"title": "Hamlet", "link": "http://x", "snippet": "A tragedy."}]


def test_a_repeated_query_costs_nothing(cache_folder: Path) -> None:
    with Serper() as server:
        server.answer["organic"] = ORGANIC
        first = google(server)
        again = ToolResult(first.blocks, first.passages, {"cached": True})
        assert first.details == {"cached": False}
        assert google(server) == again == google(server, key="another-key")
        assert len(server.requests) == 1
        google(server, "whom")
        google(server, topk=4)
        assert len(server.requests) == 3
    assert cache_folder.joinpath("google.sqlite3").exists()
    assert not [path for path in cache_folder.iterdir() if KEY.encode() in path.read_bytes()]


def test_the_same_query_at_the_same_time_is_asked_once() -> None:
    with Serper() as server:
        server.answer["organic"] = ORGANIC
        results = search(*["who"] * 8, "whom", google=section_of(server, cache_days=0))
        assert len(server.requests) == 2
    assert {result.passages for result in results} == {(Passage("Hamlet", "A tragedy."),)}
    assert [result.details["cached"] for result in results].count(False) == 2


def test_a_failure_is_not_kept() -> None:
    with Serper() as server:
        server.fault = status(500)
        with pytest.raises(ServiceUnavailable):
            google(server)
        server.fault = None
        assert google(server) == NOTHING


def test_results_expire(cache_folder: Path) -> None:
    with Serper() as server:
        google(server)
        with sqlite3.connect(cache_folder / "google.sqlite3") as connection:
            ((expires,),) = connection.execute("SELECT expires - unixepoch() FROM found").fetchall()
            assert 29.9 * 86400 < expires <= 30 * 86400 + 1
            connection.execute("UPDATE found SET expires = 1")
        google(server)
        assert len(server.requests) == 2
        google(server)
        assert len(server.requests) == 2


def test_nothing_is_kept_where_nothing_should_be(cache_folder: Path) -> None:
    with Serper() as server:
        for _ in range(2):
            search("who", google=section_of(server, cache_days=0))
        assert len(server.requests) == 2
    assert not cache_folder.exists()


def test_a_cache_that_cannot_be_opened_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is not a database, and much longer than nothing" * 99)
    for path in (tmp_path / "text", tmp_path / "text" / "below"):
        google_section = {"api_key": KEY, "cache_path": str(path)}
        with pytest.raises(ConfigError, match=r"google\.cache_path = .*set google\.cache_days to 0"):
            search_tool(load_config({"search_backend": "google", "google": google_section}))


def test_a_cache_that_breaks_costs_no_trajectory(cache_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Serper() as server:
        google(server)
        with sqlite3.connect(cache_folder / "google.sqlite3") as connection:
            connection.execute("DROP TABLE found")
            connection.execute("CREATE TABLE found (key TEXT, expires REAL)")
        assert google(server) == NOTHING
    assert "going on without it" in caplog.text


def test_retry_after_is_honoured() -> None:
    with Serper() as server:
        faults = in_order(status(429, headers={"Retry-After": "1"}))

        async def limited(request: Any, proper: Any) -> Any:
            fault = faults(request)
            return await (fault or raw(b'{"organic": []}'))(request, proper)

        server.fault = limited
        assert google(server) == NOTHING
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("per_second", "seconds"), [(5, [0, 0, 0, 0, 0, 0.2, 0.4, 0.6]), (1, [0, 1, 2]), (0.5, [0, 2, 4])]
)
def test_requests_a_second_are_bounded(per_second: float, seconds: list[float]) -> None:
    """A burst of what a second allows, then one by one."""

    async def work() -> list[float]:
        sent: list[float] = []

        async def send(*request: Any) -> None:
            sent.append(asyncio.get_running_loop().time())

        limited = RateLimited(send, per_second=per_second)
        await asyncio.gather(*(limited("", {}, {}) for _ in seconds))
        return sent

    assert run_at_once(work()) == pytest.approx(seconds)


def test_the_setting_bounds_them() -> None:
    tool = search_tool(load_config({"search_backend": "google", "google": {"api_key": KEY, "requests_per_second": 5}}))
    assert isinstance(tool, GoogleSearch) and isinstance(tool._serper._client._send, RateLimited)


PROCESS = """
import asyncio, sys
from pathlib import Path
from slime_search.tools.google.cache import DiskCache

async def work(cache):
    for number in range(300):
        key = str(number % 40).encode()
        await cache.put(key, key * 50, 1000)
        assert await cache.get(key) == key * 50

asyncio.run(work(DiskCache(Path(sys.argv[1]))))
"""


def test_processes_share_one_cache(tmp_path: Path) -> None:

    argv = [sys.executable, "-c", PROCESS, str(tmp_path / "shared.sqlite3")]
    processes = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, complaint = process.communicate()
        assert process.returncode == 0 and complaint == ""
