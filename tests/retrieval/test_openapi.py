"""What the OpenAPI schema promises holds for anything that can be sent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.retrieval.retrieval_process import Server
from tests.support.processes import free_port, is_open, wait_until

TOKEN = "open-sesame"
OPERATIONS = [("POST", "/retrieve"), ("GET", "/metrics"), ("GET", "/health"), ("GET", "/ready")]
# The server takes more than the schema says: unknown fields, one query as `query`, numbers and booleans as text.
LENIENT = "negative_data_rejection"

load_all_checks()


def statuses(
    server: Server,
    method: str,
    path: str,
    *,
    mode: GenerationMode = GenerationMode.POSITIVE,
    headers: dict[str, str] | None = None,
    unchecked: tuple[str, ...] = (LENIENT,),
) -> set[int]:
    """Sends what schemathesis thinks of, checks every answer against the schema, and returns the statuses."""
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    seen = set()

    @settings(max_examples=50)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        response = case.call(headers=headers)
        seen.add(response.status_code)
        case.validate_response(response, excluded_checks=CHECKS.get_by_names(list(unchecked)))

    send()
    return seen


def test_every_operation_is_tried(server: Server) -> None:
    _, schema = server.request("/openapi.json")
    described = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    assert described == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_schema_allows_is_answered_as_it_says(server: Server, method: str, path: str) -> None:
    assert statuses(server, method, path) == {200}


def test_what_the_schema_does_not_allow_is_refused_as_it_says(server: Server) -> None:
    seen = statuses(server, "POST", "/retrieve", mode=GenerationMode.NEGATIVE)
    assert 422 in seen and seen <= {200, 422}


def test_a_server_with_a_token_documents_its_refusal(corpus_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(corpus_path, "--port", "0", env={"SLIME_SEARCH_RETRIEVER_TOKEN": TOKEN})
    server.wait_until_ready()
    for method, path in OPERATIONS[:2]:
        unchecked = (LENIENT, "positive_data_acceptance")
        assert statuses(server, method, path, unchecked=unchecked) == {401}
        assert statuses(server, method, path, headers={"Authorization": f"Bearer {TOKEN}"}) == {200}
    server.end()


def test_a_server_that_loads_documents_its_refusal(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    pipe = tmp_path / "corpus.jsonl"
    os.mkfifo(pipe)
    port = free_port()
    server = start_server(pipe, "--port", str(port))
    server.url = f"http://127.0.0.1:{port}"
    wait_until(lambda: is_open(port))
    for method, path in (("POST", "/retrieve"), ("GET", "/ready")):
        unchecked = (LENIENT, "not_a_server_error", "positive_data_acceptance")
        assert statuses(server, method, path, unchecked=unchecked) == {503}
    server.end()
