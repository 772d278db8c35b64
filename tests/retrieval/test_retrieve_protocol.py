import asyncio
import itertools
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.retrieval.bm25_reference import WORDS, as_served, bm25_scores, check_hits
from tests.retrieval.retrieval_process import Server

Rows = list[dict[str, Any]]

QUERIES = ["red fox", "the 7", "中文 of", "café", "hen hen x_1", "unheard"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 300])
def test_shapes(server: Server, rows: Rows, texts: list[str], count: int) -> None:
    queries = [QUERIES[number % len(QUERIES)] for number in range(count)]
    status, scored = server.request("/retrieve", {"queries": queries, "topk": 4, "return_scores": True})
    assert status == 200
    assert list(scored) == ["result"]
    assert len(scored["result"]) == count
    for query, hits in zip(queries, scored["result"], strict=True):
        assert all(list(hit) == ["document", "score"] for hit in hits)
        check_hits(
            [(rows.index(hit["document"]), hit["score"]) for hit in hits], bm25_scores(texts, query, as_served), 4
        )

    status, plain = server.request("/retrieve", {"queries": queries, "topk": 4})
    assert (status, plain) == (200, {"result": [[hit["document"] for hit in hits] for hits in scored["result"]]})


def test_rows_leave_as_they_are_in_the_file(server: Server, rows: Rows) -> None:
    _, answer = server.request("/retrieve", {"queries": ["fox"], "topk": 1000})
    assert any("title" in row for row in answer["result"][0])
    for row in answer["result"][0]:
        assert json.dumps(row) in map(json.dumps, rows)


@pytest.mark.parametrize("fields", [{}, {"topk": None}, {"topk": 0}, {"topk": 2}, {"unknown": "ignored", "query": 5}])
def test_default_topk_and_unknown_fields(server: Server, fields: dict[str, Any]) -> None:
    status, answer = server.request("/retrieve", {"queries": ["red"]} | fields)
    assert (status, len(answer["result"][0])) == (200, 2)


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("topk", [{}, {"topk": 5}])
def test_one_string_is_a_list_of_one(server: Server, scores: bool, topk: dict[str, int]) -> None:
    rest = {"return_scores": scores} | topk
    answer = server.request("/retrieve", {"queries": ["red fox"]} | rest)
    assert len(answer[1]["result"]) == 1
    assert server.request("/retrieve", {"queries": "red fox"} | rest) == answer
    assert server.request("/retrieve", {"query": "red fox"} | rest) == answer
    assert server.request("/retrieve", {"queries": "red fox", "query": "hen"} | rest) == answer


def test_topk_beyond_the_matches_gives_every_match_once(server: Server, rows: Rows, texts: list[str]) -> None:
    _, answer = server.request("/retrieve", {"queries": ["fox"], "topk": 1000})
    assert {rows.index(row) for row in answer["result"][0]} == set(bm25_scores(texts, "fox", as_served))
    assert len(answer["result"][0]) == len(bm25_scores(texts, "fox", as_served))


@settings(deadline=None)
@given(
    queries=st.lists(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS)).map(" ".join)), max_size=5),
    topk=st.integers(1, 1000),
)
def test_any_request_agrees_with_the_reference(
    server: Server, rows: Rows, texts: list[str], queries: list[str], topk: int
) -> None:
    status, answer = server.request("/retrieve", {"queries": queries, "topk": topk, "return_scores": True})
    assert status == 200
    for query, hits in zip(queries, answer["result"], strict=True):
        found = [(rows.index(hit["document"]), hit["score"]) for hit in hits]
        check_hits(found, bm25_scores(texts, query, as_served), topk)


@pytest.mark.parametrize(
    ("body", "place", "value", "fix"),
    [
        ({}, "queries", "it is missing", "send a string, or a list of at most 4096 strings"),
        ({"queries": None}, "queries", "None", "or a list"),
        ({"queries": {"0": "red"}}, "queries", "['0']", "or a list"),
        ({"queries": ["red", 5]}, "queries[1]", "5", "or a list"),
        ({"queries": ["\ud800"]}, "queries[0]", "\\ud800", "or a list"),
        ({"queries": "x" * 16385}, "queries[0]", "(16385 characters)", "at most 16384 characters"),
        ({"query": 5}, "query", "5", "send a string"),
        ({"query": "x" * 16385}, "query[0]", "(16385 characters)", "at most 16384 characters"),
        ({"queries": ["x"] * 4097}, "queries", "a list of 4097", "at most 4096"),
        ({"queries": ["x" * 16385]}, "queries[0]", "(16385 characters)", "at most 16384 characters"),
        ({"queries": ["red"], "topk": -1}, "topk", "-1", "a whole number up to 1000; 0, null or none"),
        ({"queries": ["red"], "topk": 1001}, "topk", "1001", "a whole number up to 1000; 0, null or none"),
        ({"queries": ["red"] * 264, "topk": 1000}, "topk", "are 264000 passages", "send fewer queries"),
        ({"queries": ["red"], "topk": 1.5}, "topk", "1.5", "a whole number up to 1000; 0, null or none"),
        ({"queries": ["red"], "return_scores": "maybe"}, "return_scores", "'maybe'", "send true or false"),
        (["red"], "body", "a list of 1", "send a JSON object"),
        (b'{"queries": ["red"]', "body", "delimiter", "send a JSON object"),
        (b"", "body", "Expecting value", "send a JSON object"),
        (b'{"queries": ["caf\xe9"]}', "body", "can't decode byte 0xe9", "send a JSON object"),
        (b'{"queries": "x", "topk": ' + b"9" * 5000 + b"}", "body", "4300 digits", "send a JSON object"),
        (b'{"queries": ' + b"[" * 100_000, "body", "recursion", "send a JSON object"),
    ],
)
def test_refusals_name_the_field_the_value_and_the_fix(
    server: Server, body: Any, place: str, value: str, fix: str
) -> None:
    status, answer = server.request("/retrieve", body)
    message = answer["detail"][0]["msg"]
    assert status == 422
    assert message.startswith(f"{place}: ")
    assert value in message
    assert fix in message


def test_a_body_that_is_not_declared_as_json_is_refused(server: Server) -> None:
    status, answer = server.request("/retrieve", {"queries": ["red"]}, content_type="text/plain")
    assert status == 422
    assert "Content-Type: application/json" in answer["detail"][0]["msg"]


@pytest.mark.parametrize("declared", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
def test_json_may_be_declared_in_several_ways(server: Server, declared: str) -> None:
    assert server.request("/retrieve", {"queries": ["red"]}, content_type=declared)[0] == 200


def test_what_only_python_reads_is_read(server: Server) -> None:
    """A request's other fields are ignored, whatever their numbers and texts are."""
    body = b'{"queries": ["red"], "a": NaN, "b": "\\ud800", "c": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert server.request("/retrieve", body) == server.request("/retrieve", {"queries": ["red"]})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"queries": ["x", ' + b"[], " * 2_000_000 + b"1]}", "queries[1]"),
        (b'{"queries": [' + b'"x", ' * 2_000_000 + b'"x"]}', "queries"),
        (b'{"queries": ["x"], "a": [' + b"[], " * 2_000_000 + b"1}", "body"),
    ],
)
def test_a_large_body_that_does_not_fit_is_refused_without_its_values(server: Server, body: bytes, place: str) -> None:
    status, answer = server.request("/retrieve", body)
    assert status == 422
    assert answer["detail"][0]["msg"].startswith(f"{place}: ")
    assert len(json.dumps(answer)) < 1000


def test_refusals_stay_short(server: Server) -> None:
    body = {"queries": [["x" * 100] * 100] * 100, "topk": ["x" * 100] * 100, "return_scores": "x" * 10_000}
    status, answer = server.request("/retrieve", body)
    assert (status, len(answer["detail"])) == (422, 3)
    assert len(json.dumps(answer)) < 2000


def test_the_limits_themselves_are_accepted(server: Server) -> None:
    status, answer = server.request("/retrieve", {"queries": ["x" * 16384] * 4096, "topk": 64})
    assert (status, answer) == (200, {"result": [[]] * 4096})


def test_openapi_describes_both_shapes(server: Server) -> None:
    status, schema = server.request("/openapi.json")
    operation = schema["paths"]["/retrieve"]["post"]
    components = schema["components"]["schemas"]
    assert status == 200
    assert set(operation["responses"]) == {"200", "413", "422", "503"}
    request = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(request["properties"]) == {"queries", "topk", "return_scores"}
    assert len(components["RetrieveResponse"]["properties"]["result"]["anyOf"]) == 2
    one, many = request["properties"]["queries"]["anyOf"]
    assert (one, many) == (
        {"type": "string", "maxLength": 16384},
        {"type": "array", "items": {"type": "string", "maxLength": 16384}, "maxItems": 4096},
    )


async def test_200_concurrent_clients_each_get_their_own_answer(server: Server, rows: Rows, texts: list[str]) -> None:
    queries = list(itertools.islice((f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS), 1, 1000, 5))
    assert len(set(queries)) == 200

    async def ask(session: aiohttp.ClientSession, query: str, topk: int) -> None:
        body = {"queries": [query], "topk": topk, "return_scores": True}
        async with session.post(f"{server.url}/retrieve", json=body) as response:
            [hits] = (await response.json())["result"]
        check_hits(
            [(rows.index(hit["document"]), hit["score"]) for hit in hits], bm25_scores(texts, query, as_served), topk
        )

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(session, query, 3 + number // 100) for number, query in enumerate(queries)))
