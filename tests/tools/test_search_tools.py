"""The retriever's client: every answer becomes passages or a typed error."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.config import load_config
from slime_search.core.tokens import well_formed
from slime_search.core.tool import MAX_QUERY_CHARS, Passage, ToolResult
from slime_search.errors import InvalidQuery, ServiceRejected, ServiceUnavailable
from slime_search.recipes.base import search_tool
from slime_search.retrieval import protocol
from slime_search.retrieval.corpus_file import passage_text
from slime_search.tools.retriever import _answer_to_one_query
from slime_search.transport.client import close_sessions
from tests.support.loopback import LoopbackServer, edited, in_order, json_response, raw, status
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


FIELDS = st.one_of(st.none(), st.just("  "), st.text(min_size=1), st.integers())


@given(row=st.fixed_dictionaries({}, optional={"title": FIELDS, "text": FIELDS, "contents": FIELDS, "id": FIELDS}))
@example(row={"title": "Emma", "text": "It is.", "contents": None})
@example(row={"title": "Emma", "text": "It is.", "contents": " "})
@example(row={"title": None, "text": None, "contents": "Emma\nIt is."})
@example(row={"contents": "", "text": "It is."})
def test_a_row_that_the_server_indexes_is_read_as_it_is_indexed(row: dict[str, Any]) -> None:
    try:
        indexed = passage_text(row)
    except ValueError:
        return
    item: Any
    for item in (row, {"document": row, "score": 0.5}):
        (passage,), _ = _answer_to_one_query({"result": [[item]]})
        # The server keeps a title apart by a line break, too.
        read = f"{passage.title}\n{passage.text}" if passage.title else passage.text
        assert read.rstrip("\n") == well_formed(indexed).rstrip("\n").removeprefix("" if passage.title else "\n")


def test_a_row_may_have_a_column_that_is_called_document() -> None:
    rows = {"result": [[{"contents": "T\nx", "document": "a.pdf"}, {"contents": "U\ny", "document": {"page": 3}}]]}
    with ScriptedRetriever(lambda query: []) as server:
        server.script = in_order(edited(lambda answer: rows))
        assert retrieve(server).passages == (Passage("T", "x"), Passage("U", "y"))


def test_a_query_that_is_too_long_is_not_sent() -> None:
    assert MAX_QUERY_CHARS == protocol.MAX_QUERY_CHARS
    with ScriptedRetriever(lambda query: []) as server:
        with pytest.raises(InvalidQuery, match="16385 characters, and 16384 are allowed"):
            retrieve(server, "x" * (MAX_QUERY_CHARS + 1))
        retrieve(server, "x" * MAX_QUERY_CHARS)
        assert len(server.lookups) == 1


REFUSALS: list[tuple[int, Any, bool]] = [
    (413, "too large", True),
    (422, {"detail": [{"loc": ["body", "queries", 0], "msg": "too long", "type": "string_too_long"}]}, True),
    (422, {"error": {"type": "invalid_request", "fields": [["queries", "0"]]}}, True),
    (422, {"detail": [{"loc": ["body", "topk"], "msg": "too many", "type": "less_than_equal"}]}, False),
    (422, {"detail": [{"loc": ["body", "queries"]}, {"loc": ["body", "topk"]}]}, False),
    (400, {"detail": "Bad request"}, False),
    (400, "no JSON", False),
    (401, {"detail": "Authorization"}, False),
    (404, {"detail": []}, False),
    (422, {"detail": ["text"]}, False),
]


@pytest.mark.parametrize(("code", "body", "about_the_query"), REFUSALS)
def test_a_refusal_is_the_querys_fault_where_it_says_so(code: int, body: Any, about_the_query: bool) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    with ScriptedRetriever(lambda query: []) as server:
        server.script = lambda lookup: status(code, text)
        with pytest.raises(InvalidQuery if about_the_query else ServiceRejected):
            retrieve(server)
        assert len(server.lookups) == 1


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
