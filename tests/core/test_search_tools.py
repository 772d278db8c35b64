"""The retriever's client and Google's: every answer becomes passages or a typed error."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from aiohttp import web
from support.loopback import Fault, LoopbackServer, edited, in_order, json_response, raw, status
from support.scripted_retriever import ScriptedRetriever

from slime_search.config import load_config
from slime_search.errors import ConfigError, ServiceError, ServiceUnavailable
from slime_search.recipes.base import search_tool
from slime_search.service import close_sessions
from slime_search.tools.base import Passage, ToolResult

KEY = "serper-secret-0123456789"


def search(query: str, **config: Any) -> ToolResult:
    async def work() -> ToolResult:
        try:
            return await search_tool(load_config({"search_attempts": 2, **config}))(query)
        finally:
            await close_sessions()

    return asyncio.run(work())


def retrieve(server: ScriptedRetriever, query: str = "who", **config: Any) -> ToolResult:
    return search(query, local={"search_url": server.search_url}, **config)


@pytest.mark.parametrize("scored", [False, True])
def test_passages_in_search_r1s_wording(scored: bool) -> None:
    with ScriptedRetriever(lambda query: ['"Hamlet"\nA tragedy.\nIn five acts.', "Lear"], scored=scored) as server:
        result = retrieve(server)
    assert result.passages == (Passage('"Hamlet"', "A tragedy.\nIn five acts."), Passage("Lear", ""))
    assert result.blocks == ('Doc 1(Title: "Hamlet") A tragedy.\nIn five acts.\n', "Doc 2(Title: Lear) \n")


def test_the_request_is_one_query() -> None:
    with ScriptedRetriever(lambda query: ["T\nx"] * 9) as server:
        result = retrieve(server, "wer \ud800 \ud83c\udf89", topk=2)
        assert server.lookups[0].body == {"queries": ["wer \ufffd 🎉"], "topk": 2, "return_scores": False}
    assert len(result.passages) == 2


def test_the_servers_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedRetriever(lambda query: []) as server:
        retrieve(server)
        monkeypatch.setenv("SLIME_SEARCH_RETRIEVER_TOKEN", KEY)
        retrieve(server)
        first, second = (lookup.headers.get("Authorization") for lookup in server.lookups)
    assert (first, second) == (None, f"Bearer {KEY}")


def test_title_and_text_fields_are_passages_too() -> None:
    rows = {"result": [[{"title": "T", "text": "x"}, {"text": "y"}, {"title": None, "text": "z"}]]}
    with ScriptedRetriever(lambda query: []) as server:
        server.script = in_order(edited(lambda answer: rows))
        assert retrieve(server).passages == (Passage("T", "x"), Passage("", "y"), Passage("", "z"))


def test_nothing_found_is_a_result() -> None:
    with ScriptedRetriever(lambda query: []) as server:
        assert retrieve(server) == ToolResult((), ())


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"a\ud800b", "a\ufffdb"),
        (rb"\udf89\ud83c", "\ufffd\ufffd"),
        (rb"\ud83c\udf89", "🎉"),
        (rb"a\ud800", "a\ufffd"),
    ],
)
def test_unpaired_surrogates_in_a_passage_are_replaced(sent: bytes, read: str) -> None:
    """Python's json writes them as escapes, so a corpus that holds one serves it; that is no outage."""
    with ScriptedRetriever(lambda query: []) as server:
        server.script = lambda lookup: raw(b'{"result": [[{"contents": "T\\n' + sent + b'"}]]}')
        assert retrieve(server).passages == (Passage("T", read),)


WRONG_SHAPES: dict[str, Any] = {
    "no result": {"results": []},
    "two queries' results": {"result": [[], []]},
    "no query's result": {"result": []},
    "rows that are text": {"result": [["text"]]},
    "a row without text": {"result": [[{"id": "1"}]]},
    "a scored row without text": {"result": [[{"document": {"id": "1"}, "score": 1.0}]]},
    "a scored row without document": {"result": [[{"document": None, "score": 1.0}]]},
    "contents that are null": {"result": [[{"contents": None}]]},
    "text that is null": {"result": [[{"title": "T", "text": None}]]},
    "a dict of results": {"result": {"0": []}},
    "null": None,
    "a string": "result",
}


@pytest.mark.parametrize("shape", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_an_answer_of_another_shape_is_retried_and_never_text(shape: Any) -> None:
    with ScriptedRetriever(lambda query: ["T\nx"]) as server:
        server.script = in_order(edited(lambda answer: shape))
        assert retrieve(server).passages == (Passage("T", "x"),)
        server.script = lambda lookup: edited(lambda answer: shape)
        with pytest.raises(ServiceUnavailable, match=r"retriever at .*not an answer of /retrieve"):
            retrieve(server)


def test_a_server_that_ignores_topk_does_not_flood_the_context() -> None:
    with ScriptedRetriever(lambda query: []) as server:
        server.script = in_order(edited(lambda answer: {"result": [[{"contents": f"T{n}\nx"} for n in range(50)]]}))
        assert len(retrieve(server, topk=3).passages) == 3


class Serper(LoopbackServer):
    """serper.dev's search, which answers only to its key."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = {"searchParameters": {}, "organic": []}
        self.fault: Fault | None = None
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/search", self._search)]

    async def _search(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((str(request.url), dict(request.headers), orjson.loads(await request.read())))
        if request.headers.get("X-API-KEY") != KEY:
            return web.Response(status=403, text='{"message":"Unauthorized.","statusCode":403}')
        return json_response(self.answer) if self.fault is None else await self.fault(request, self.answer)


def google(server: Serper, query: str = "who", *, key: str | None = KEY, **config: Any) -> ToolResult:
    section = {"endpoint": f"{server.url}/search", **({"api_key": key} if key else {})}
    return search(query, search_backend="google", google=section, **config)


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
        assert google(server) == ToolResult((), ())


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
        assert google(server, key=None) == ToolResult((), ())
        assert google(server, key="your_api_key_here") == ToolResult((), ())


@pytest.mark.parametrize("key", [None, "your_api_key_here", ""])
def test_google_without_a_key_is_refused_before_anything_runs(key: str | None) -> None:
    section = {} if key is None else {"api_key": key}
    with pytest.raises(ConfigError, match=r"google\.api_key: .*export SERPER_API_KEY"):
        search_tool(load_config({"search_backend": "google", "google": section}))


def test_a_proxy_is_used() -> None:
    class Proxy(LoopbackServer):
        def routes(self) -> Iterable[web.RouteDef]:
            return [web.post("/{path:.*}", self._forward)]

        async def _forward(self, request: web.Request) -> web.StreamResponse:
            return json_response({"result": [[{"contents": f"proxied\n{request.raw_path}"}]]})

    with Proxy() as proxy:
        result = search("q", local={"search_url": "http://retriever.invalid/retrieve", "proxy": proxy.url})
    assert result.passages == (Passage("proxied", "http://retriever.invalid/retrieve"),)
