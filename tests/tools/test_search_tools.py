"""The retriever's client: every answer becomes passages or a typed error."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import web

from slime_search.config import load_config
from slime_search.core.tool import Passage, ToolResult
from slime_search.errors import ServiceUnavailable
from slime_search.recipes.base import search_tool
from slime_search.transport.client import close_sessions
from tests.support.loopback import LoopbackServer, edited, in_order, json_response, raw
from tests.support.scripted_retriever import ScriptedRetriever

TOKEN = "token-0123456789"


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
        monkeypatch.setenv("SLIME_SEARCH_RETRIEVER_TOKEN", TOKEN)
        retrieve(server)
        first, second = (lookup.headers.get("Authorization") for lookup in server.lookups)
    assert (first, second) == (None, f"Bearer {TOKEN}")


def test_title_and_text_fields_are_passages_too() -> None:
    rows = {"result": [[{"title": "T", "text": "x"}, {"text": "y"}, {"title": None, "text": "z"}]]}
    with ScriptedRetriever(lambda query: []) as server:
        server.script = in_order(edited(lambda answer: rows))
        assert retrieve(server).passages == (Passage("T", "x"), Passage("", "y"), Passage("", "z"))


@pytest.mark.parametrize(
    ("told", "details"),
    [([True], {"cached": True}), ([True, False], {}), ("yes", {}), ([1], {}), (None, {})],
)
def test_what_a_server_tells_of_its_cache_is_kept_where_it_is_ours(told: Any, details: dict[str, bool]) -> None:
    with ScriptedRetriever(lambda query: []) as server:
        server.script = in_order(edited(lambda answer: answer | {"cached": told}))
        assert retrieve(server) == ToolResult((), (), details)


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


def test_a_proxy_is_used() -> None:
    class Proxy(LoopbackServer):
        def routes(self) -> Iterable[web.RouteDef]:
            return [web.post("/{path:.*}", self._forward)]

        async def _forward(self, request: web.Request) -> web.StreamResponse:
            return json_response({"result": [[{"contents": f"proxied\n{request.raw_path}"}]]})

    with Proxy() as proxy:
        result = search("q", local={"search_url": "http://retriever.invalid/retrieve", "proxy": proxy.url})
    assert result.passages == (Passage("proxied", "http://retriever.invalid/retrieve"),)
