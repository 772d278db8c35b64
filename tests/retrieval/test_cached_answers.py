"""Which answers were known: told to those who ask, and to nobody else."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slime_search.config import load_config
from slime_search.core.tool import ToolResult
from slime_search.recipes.base import search_tool
from slime_search.transport.client import close_sessions
from tests.retrieval.retrieval_process import Server

ASKING = {"X-Slime-Search-Details": "cached"}


def answer(server: Server, *queries: str, headers: dict[str, str] | None = None) -> dict[str, list[object]]:
    status, _, content = server.exchange("/retrieve", {"queries": queries}, headers)
    assert status == 200
    return dict(json.loads(content))


def test_who_asks_is_told_for_each_query(server: Server) -> None:
    answer(server, "an old one")
    found = answer(server, "an old one", "a new one", "an  old one", headers=ASKING)
    assert found["cached"] == [True, False, True]
    assert answer(server, "a new one", headers=ASKING)["cached"] == [True]


@pytest.mark.parametrize("headers", [None, {"X-Slime-Search-Details": "another"}])
def test_others_get_the_protocols_answer(server: Server, headers: dict[str, str] | None) -> None:
    for _ in range(2):
        assert answer(server, "asked plainly", headers=headers).keys() == {"result"}


def test_the_client_tells_it_of_each_search(corpus_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(corpus_path, "--port", "0")
    server.wait_until_ready()
    tool = search_tool(load_config({"local": {"search_url": f"{server.url}/retrieve"}}))

    async def twice() -> list[ToolResult]:
        try:
            return [await tool("red"), await tool("red")]
        finally:
            await close_sessions()

    first, second = asyncio.run(twice())
    assert (first.details, second.details) == ({"cached": False}, {"cached": True})
    assert first.passages == second.passages
