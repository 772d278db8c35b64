"""Pages in place of snippets: what is read of them, and that a page that can't be read costs nothing."""

import asyncio
import gzip
import signal
import subprocess
import sys
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from slime_search.config import load_config
from slime_search.core.tool import Passage, ToolResult
from slime_search.recipes.base import search_tool
from slime_search.tools.google.addresses import AddressPolicy
from slime_search.tools.google.cache import DiskCache, Memory
from slime_search.tools.google.pages import Pages
from slime_search.tools.google.search import GoogleSearch
from slime_search.tools.google.serper import Serper as SerperClient
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from tests.support.scripted_web import KEY, Answer, Serper, Web, breaks_off, crawls, fails, floods, redirects, sends

SNIPPET = "The bridge of Avignon was built in 1185 ... it spans the Rhône."
STORY = "<p>The bridge of Avignon was built in 1185 and fell in 1669. Four of its arches remain today.</p>"
READ = "The bridge of Avignon was built in 1185 and fell in 1669. Four of its arches remain today."
ARTICLE = (
    "<html><head><title>Bridge</title></head><body><nav><a href='/'>Home</a> <a href='/b'>All</a></nav><article>"
    "<h1>Bridges</h1><p>Bridges carry roads over water, and some of them are older than the roads that they carry.</p>"
    f"{STORY}<p>Visitors pay five euros for a ticket at the eastern tower, children go for free all year.</p></article>"
    "<footer>Copyright Bridges Ltd. Accept all cookies to go on.</footer></body></html>"
)


def loopback(address: Any) -> bool:
    return bool(address == IPv4Address("127.0.0.1"))


class Reader:
    """GoogleSearch with a Web in place of the web, and what became of its pages."""

    def __init__(self, cache: Path | None = None, allowed: AddressPolicy = loopback, **limits: Any) -> None:
        memory = Memory(DiskCache(cache) if cache else None, seconds=1000)
        wanted = {"max_bytes": 100_000, "timeout_s": 20.0, "concurrency": 8, "max_chars": 500, "allowed": allowed}
        self.pages = Pages(memory, **{**wanted, **limits})
        self.outcomes: Counter[str] = Counter()

    def read(self, *urls: str, snippet: str = SNIPPET) -> ToolResult:
        async def work() -> ToolResult:
            with Serper() as server:
                server.answer["organic"] = [{"title": "T", "link": url, "snippet": snippet} for url in urls]
                client = ServiceClient("serper", PooledSender(concurrency=4, timeout_s=10), attempts=1)
                memory = Memory(None, seconds=0)
                serper = SerperClient(client, api_key=KEY, url=f"{server.url}/search", memory=memory)
                try:
                    result = await GoogleSearch(serper, topk=len(urls), pages=self.pages)("q")
                    self.outcomes.update(result.details["pages"])
                    return result
                finally:
                    await close_sessions()

        return asyncio.run(work())


@pytest.fixture(scope="module")
def shared() -> Reader:
    """One for all, as its worker processes take a while to start."""
    return Reader()


@pytest.fixture
def reader(shared: Reader) -> Reader:
    shared.outcomes.clear()
    return shared


def test_the_text_around_the_snippet_is_read(reader: Reader) -> None:
    with Web() as site:
        site.pages = {"/a": ARTICLE, "/b": ARTICLE.replace("Avignon", "Lyon")}
        result = reader.read(f"{site.url}/a", f"{site.url}/b", f"{site.url}/a")
    assert result.passages[0] == Passage("T", READ)
    assert result.passages[1] == Passage("T", READ.replace("Avignon", "Lyon"))
    assert result.blocks[0] == f"Doc 1(Title: T) {READ}\n"
    assert sorted(site.visits) == ["/a", "/b"]
    assert reader.outcomes == {"read": 3}


GOOD: dict[str, Answer | str] = {
    "no content type": sends(ARTICLE.encode(), "text/html"),
    "xhtml with a declaration": sends(
        b'<?xml version="1.0" encoding="utf-8"?>' + ARTICLE.encode(), "application/xhtml+xml"
    ),
    "plain text": sends(f"Bridges\n\n{READ}\n\nTickets".encode(), "text/plain"),
    "gzipped": sends(gzip.compress(ARTICLE.encode()), Content_Encoding="gzip"),
    "malformed": ARTICLE.replace("</p>", "").replace("</article>", "<div><table><tr>").replace("</html>", "<p <<b"),
    "an unknown charset": sends(ARTICLE.encode(), "text/html; charset=utf-99"),
    "a charset that is none": sends(ARTICLE.encode(), "text/html; charset=zlib"),
    "a redirect": redirects("/target"),
}


@pytest.mark.parametrize("page", GOOD.values(), ids=GOOD)
def test_pages_of_many_kinds_are_read(reader: Reader, page: Answer | str) -> None:
    with Web() as site:
        site.pages = {"/": page, "/target": ARTICLE}
        (passage,) = reader.read(f"{site.url}/").passages
    assert READ.split(". ")[0] in passage.text
    assert "cookies" not in passage.text
    assert reader.outcomes == {"read": 1}


BOMB = gzip.compress(b"\0" * 50_000_000)
BAD: dict[str, tuple[Answer | str, str]] = {
    "not found": (fails(404), "HTTP 4xx"),
    "out of order": (fails(500), "HTTP 5xx"),
    "too many requests": (fails(429), "HTTP 4xx"),
    "a PDF": (sends(b"%PDF-1.7", "application/pdf"), "not a text"),
    "no type": (sends(b"\0\1\2\3" * 100, "application/octet-stream"), "not a text"),
    "binary that calls itself HTML": (sends(bytes(range(256)) * 100), "without the snippet"),
    "empty": (sends(b""), "without the snippet"),
    "a cookie wall": ("<html><body><p>Accept our cookies to read on.</p></body></html>", "without the snippet"),
    "a gzip bomb": (sends(BOMB, Content_Encoding="gzip"), "without the snippet"),
    "not gzip": (sends(b"plain", Content_Encoding="gzip"), "broken answer"),
    "a flood": (floods, "without the snippet"),
    "broken off": (breaks_off, "broken answer"),
    "a redirect to itself": (redirects("/"), "too many redirects"),
    "a redirect to a file": (redirects("file:///etc/passwd"), "not a web address"),
    "a redirect to nonsense": (redirects("http://[::1"), "not a web address"),
    "a redirect to another machine within": (redirects("http://127.0.0.2/"), "address refused"),
    "a redirect to metadata": (redirects("http://169.254.169.254/latest/meta-data/"), "address refused"),
    "a redirect to IPv6 loopback": (redirects("http://[::1]:80/"), "address refused"),
    "a redirect to mapped loopback": (redirects("http://[::ffff:127.0.0.1]/"), "address refused"),
}


@pytest.mark.parametrize(("page", "outcome"), BAD.values(), ids=BAD)
def test_a_page_that_cannot_be_read_leaves_its_snippet(reader: Reader, page: Answer | str, outcome: str) -> None:
    with Web() as site:
        site.pages = {"/": page, "/fine": ARTICLE}
        result = reader.read(f"{site.url}/", f"{site.url}/fine")
    assert result.passages == (Passage("T", SNIPPET), Passage("T", READ))
    assert reader.outcomes == {outcome: 1, "read": 1}


def test_a_page_that_crawls_is_given_up() -> None:
    reader = Reader(timeout_s=0.3)
    with Web() as site:
        site.pages = {"/": crawls}
        assert reader.read(f"{site.url}/").passages == (Passage("T", SNIPPET),)
    assert reader.outcomes == {"too slow": 1}


@pytest.mark.parametrize("link", ["", "nonsense", "ftp://127.0.0.1/", "http://", "http://[", "http://a.invalid:99999/"])
def test_a_link_that_is_none_leaves_its_snippet(reader: Reader, link: str) -> None:
    assert reader.read(link).passages == (Passage("T", SNIPPET),)
    assert reader.outcomes == {"not a web address": 1}


def test_a_host_that_is_not_there_leaves_its_snippet(reader: Reader) -> None:
    assert reader.read("http://nobody.invalid/").passages == (Passage("T", SNIPPET),)
    assert reader.outcomes == {"no connection": 1}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_here_is_connected_to_unless_the_constructor_is_told(host: str) -> None:
    reader = Reader()
    with Web() as site:
        config = {"api_key": KEY, "snippet_only": False, "cache_days": 0}
        tool = search_tool(load_config({"search_backend": "google", "google": config}))
        assert isinstance(tool, GoogleSearch) and tool._pages is not None
        reader.pages = tool._pages
        assert reader.read(f"http://{host}:{site.port}/").passages == (Passage("T", SNIPPET),)
        assert site.visits == []
    assert reader.outcomes.keys() <= {"address refused", "no connection"}


def test_waiting_for_ones_turn_counts_towards_no_limit() -> None:
    """Those before it take all the time that a page is given, and it is read nevertheless."""
    reader = Reader(timeout_s=1.0, concurrency=1)
    with Web() as site:
        site.pages = {"/1": crawls, "/2": crawls, "/3": ARTICLE}
        reader.read(*(f"{site.url}/{n}" for n in (1, 2, 3)))
        assert (site.visits, site.peak_in_flight) == (["/1", "/2", "/3"], 1)
    assert reader.outcomes == {"too slow": 2, "read": 1}


WITHOUT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "trafilatura" else found(name, *rest)
from slime_search.config import load_config
from slime_search.recipes.base import search_tool
for snippet_only in (True, False):
    google = {"api_key": "k", "cache_days": 0, "snippet_only": snippet_only}
    search_tool(load_config({"search_backend": "google", "google": google}))
    print("built")
"""


def test_a_missing_package_is_named_before_anything_runs() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stdout == "built\n"
    assert "ConfigError: google.snippet_only = False: trafilatura is not installed; pip install" in done.stderr


def test_a_proxy_gets_no_private_address() -> None:
    with Web() as proxy:
        proxy.pages = {"/there": ARTICLE}
        reader = Reader(proxy=proxy.url)
        private = ["http://169.254.169.254/", "http://[::1]/", "http://10.0.0.1/", "http://localhost.invalid/there"]
        results = reader.read(*private).passages
    assert [passage.text for passage in results] == [SNIPPET, SNIPPET, SNIPPET, READ]
    assert proxy.visits == ["/there"]
    assert reader.outcomes == {"address refused": 3, "read": 1}


def test_what_was_read_is_kept(tmp_path: Path) -> None:
    with Web() as site:
        site.pages = {"/": ARTICLE, "/no": fails(404)}
        for _ in range(2):
            reader = Reader(cache=tmp_path / "found.sqlite3")
            texts = [passage.text for passage in reader.read(f"{site.url}/", f"{site.url}/no").passages]
            assert texts == [READ, SNIPPET]
        assert sorted(site.visits) == ["/", "/no"]
        assert reader.outcomes == {"read": 1, "HTTP 4xx": 1}
        reader.read(f"{site.url}/", snippet="Visitors pay five euros for a ticket at the eastern tower")
        assert sorted(site.visits) == ["/", "/", "/no"]


def test_a_worker_that_dies_is_replaced(reader: Reader) -> None:
    with Web() as site:
        site.pages = {"/1": ARTICLE, "/2": ARTICLE, "/3": ARTICLE}
        reader.read(f"{site.url}/1")
        pool = reader.pages._workers._pool
        assert pool is not None
        for process in pool._processes.values():
            process.kill()
            process.join()
        first = reader.read(f"{site.url}/2").passages[0].text
        assert reader.read(f"{site.url}/3").passages[0].text == READ
    assert first in (READ, SNIPPET)
    assert reader.outcomes["read"] >= 2


PARENT = """
import asyncio, os, signal
from slime_search.tools.google.fetching import Page
from slime_search.tools.google.workers import TextWorkers

async def work():
    workers = TextWorkers(2)
    await workers.text_around(Page(b"x", True, None), "x", 100)
    print(*workers._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(work())
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    # The workers hold the parent's stdout, so this returns when the last of them has ended.
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) >= 1
