"""Clients of the ``/retrieve`` protocol, unmodified: what they ask, read and do with a refusal."""

import importlib
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.clients.client_server import ROWS, checkout, load_file

CONTENTS = [row["contents"] for row in ROWS]
HAMLET, EMMA, DUNE, CAFE = CONTENTS
QUESTIONS = {"prince of Denmark": HAMLET, "Jane Austen": EMMA, "desert planet": DUNE, "Café Müller 中文": CAFE}
NOTHING = "xyzzy"


@pytest.fixture(scope="session")
def slime() -> ModuleType:
    """slime's ``local_search``: one query, without scores."""
    return load_file(checkout("SLIME_HOME") / "examples" / "search-r1" / "local_search_server.py")


@pytest.fixture(scope="session")
def verl() -> ModuleType:
    """What verl's SearchTool calls: many queries, with scores."""
    return load_file(checkout("VERL_HOME") / "verl" / "tools" / "utils" / "search_r1_like_utils.py")


@pytest.fixture(scope="session")
def skyrl() -> Iterator[ModuleType]:
    """SkyRL's tool, with its package: one query as ``query``, with scores, over kept connections."""
    folder = str(checkout("SKYRL_HOME") / "skyrl-gym")
    pytest.importorskip("pandas", reason="skyrl_gym imports pandas")
    sys.path.insert(0, folder)
    yield importlib.import_module("skyrl_gym.tools.search")
    sys.path.remove(folder)


async def test_slime_reads_rows(slime: ModuleType, search_url: str) -> None:
    for question, contents in QUESTIONS.items():
        assert await slime.local_search(search_url, question, top_k=1) == [{"document": {"contents": contents}}]
    both = await slime.local_search(search_url, "novel", top_k=5)
    assert {found["document"]["contents"] for found in both} == {EMMA, DUNE}
    assert await slime.local_search(search_url, NOTHING) == []


async def test_slime_takes_a_refusal_for_nothing_found(
    slime: ModuleType, search_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await slime.local_search(search_url, "novel", top_k=-1) == []
    assert "422" in capsys.readouterr().out


def test_verl_reads_many_queries_with_scores(verl: ModuleType, search_url: str) -> None:
    answer, error = verl.call_search_api(search_url, [*QUESTIONS, NOTHING], topk=1)
    assert error is None
    assert [[hit["document"] for hit in hits] for hits in answer["result"]] == [[row] for row in ROWS] + [[]]
    assert all(hit["score"] > 0 for hits in answer["result"] for hit in hits)
    plain, error = verl.call_search_api(search_url, ["Hamlet", "Emma"], topk=3, return_scores=False)
    assert (plain, error) == ({"result": [[ROWS[0]], [ROWS[1]]]}, None)


def test_verl_formats_what_it_found(verl: ModuleType, search_url: str) -> None:
    text, metadata = verl.perform_single_search_batch(search_url, ["Jane Austen", "desert"], topk=1)
    expected = 'Doc 1 (Title: "Emma")\nA novel by Jane Austen.\nIt has a second line.\n---\n'
    expected += 'Doc 1 (Title: "Dune")\nA novel about the desert planet Arrakis.'
    assert json.loads(text) == {"result": expected}
    assert (metadata["status"], metadata["total_results"]) == ("success", 2)


def test_verl_reports_a_refusal_and_does_not_repeat_it(verl: ModuleType, search_url: str) -> None:
    text, metadata = verl.perform_single_search_batch(search_url, ["novel"], topk=1_001)
    assert metadata["status"] == "api_error"
    assert "422 Client Error" in json.loads(text)["result"]


def test_verl_waits_for_a_server_that_loads(verl: ModuleType, loading_url: str) -> None:
    answer, error = verl.call_search_api(loading_url, ["prince"], topk=1, return_scores=False)
    assert (answer, error) == ({"result": [[ROWS[0]]]}, None)


def tool_text(skyrl: ModuleType, url: str, query: str, **options: Any) -> Any:
    tool = skyrl.SearchToolGroup(search_url=url, log_requests=False, **options)
    return json.loads(tool.execute_tool("search", query))["result"]


def test_skyrl_formats_what_it_found(skyrl: ModuleType, search_url: str) -> None:
    for question, contents in QUESTIONS.items():
        assert tool_text(skyrl, search_url, question, topk=1) == f"Doc 1: {contents}\n"
    assert tool_text(skyrl, search_url, "novel", topk=2).count("Doc ") == 2
    assert tool_text(skyrl, search_url, NOTHING) == ""


def test_skyrl_reads_scores(skyrl: ModuleType, search_url: str) -> None:
    answer, error = skyrl.call_search_api(search_url, "novel", topk=2, log_requests=False)
    assert error is None
    [hits] = answer["result"]
    assert hits[0]["score"] >= hits[1]["score"] > 0


def test_skyrl_reports_a_refusal_and_does_not_repeat_it(skyrl: ModuleType, search_url: str) -> None:
    assert "422 Client Error" in tool_text(skyrl, search_url, "novel", topk=-1)


def test_skyrl_waits_for_a_server_that_loads(skyrl: ModuleType, loading_url: str) -> None:
    assert tool_text(skyrl, loading_url, "prince", topk=1) == f"Doc 1: {HAMLET}\n"
