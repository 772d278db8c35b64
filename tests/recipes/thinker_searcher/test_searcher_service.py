"""The Searcher service over real HTTP: what it answers, and what a failure of one of its services looks like."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from slime_search.hooks.samples import RECORD_KEY
from tests.recipes.thinker_searcher.searcher_process import Backends, Service
from tests.support.loopback import status, truncated, until
from tests.support.policies import question_number, think_answer, think_search
from tests.support.processes import wait_until
from tests.support.rollouts import arguments, generate, new_sample
from tests.support.scripted_engine import Abort, ScriptedEngine
from tests.support.thinkers import THINKER, thinker
from tests.support.training_view import training_view


def test_one_question_and_everything_about_it(service: Service, shared_backends: Backends) -> None:
    began = time.perf_counter()
    code, body = service.ask(7)
    elapsed_s = time.perf_counter() - began
    (row,) = body["results"]
    seconds = row.pop("seconds")
    assert (code, row) == (
        200,
        {
            "question": "Who made thing-7?",
            "answer": "thing-7 was made by name-7.",
            "ending": "answered",
            "turns": [
                {
                    "text": think_search("thing-7 maker"),
                    "observation": "\n\n<information>Doc 1(Title: About thing-7) It was made by name-7 long ago."
                    "</information>\n\n",
                },
                {"text": think_answer("thing-7 was made by name-7."), "observation": ""},
            ],
            "queries": ["thing-7 maker"],
            "passages": [{"title": "About thing-7", "text": "It was made by name-7 long ago."}],
        },
    )
    assert seconds["total"] == pytest.approx(seconds["model"] + seconds["search"])
    assert 0 < seconds["search"] < seconds["total"] < elapsed_s
    training_view(shared_backends.exchanges(7))


def test_a_batch_comes_back_in_order_and_is_worked_on_at_once(service: Service, shared_backends: Backends) -> None:
    engine = shared_backends.engine

    async def all_begin_before_one_ends(exchange: Any) -> None:
        await until(lambda: len({question_number(e.prompt) for e in engine.exchanges if "thing-3" in e.prompt}) >= 10)

    engine.gate = all_begin_before_one_ends
    numbers = [*range(309, 299, -1)]
    code, body = service.ask(*numbers)
    assert code == 200
    assert [row["answer"] for row in body["results"]] == [f"thing-{n} was made by name-{n}." for n in numbers]
    for number in numbers:
        training_view(shared_backends.exchanges(number))


@pytest.mark.parametrize("body", [{"queries": "Who made thing-8?"}, {"query": "Who made thing-8?", "topk": 3}])
def test_one_text_will_do(service: Service, body: Any) -> None:
    code, answer = service.request("/search", body)
    assert (code, [row["question"] for row in answer["results"]]) == (200, ["Who made thing-8?"])


def test_nothing_asked_nothing_answered(service: Service) -> None:
    assert service.request("/search", {"queries": []}) == (200, {"results": []})


def test_a_session_that_ends_without_an_answer_is_no_error(service: Service) -> None:
    code, body = service.ask(9, max_turns=0)
    (row,) = body["results"]
    assert (code, row["answer"], row["ending"], row["queries"]) == (200, None, "out_of_turns", [])
    assert [turn["text"] for turn in row["turns"]] == [think_search("thing-9 maker")]


BAD: dict[str, tuple[Any, str]] = {
    "no queries": ({"question": "?"}, "queries: it is missing"),
    "a number": ({"queries": 7}, "queries: expected is a list, got 7"),
    "an empty one": ({"queries": ["a", ""]}, "queries[1]: expected is a text of at least 1 characters"),
    "a long one": ({"queries": ["a" * 20_000]}, "at most 16384 characters, got 'aaa"),
    "half a surrogate": ({"queries": ["\ud83d" * 20_000]}, r"got '\ud83d\ud83d"),
    "too many turns": ({"queries": ["a"], "max_turns": 99}, "max_turns: expected is a number of at most 32, got 99"),
    "a list": (["a"], "the body: expected are keys with values, got a list of 1"),
    "a number for a body": ([3], "the body: expected are keys with values, got a list of 1"),
    "no JSON": (b"{bad", "the body: not valid JSON"),
}


@pytest.mark.parametrize(("body", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_request_is_told_its_field_and_an_example(service: Service, body: Any, complaint: str) -> None:
    code, answer = service.request("/search", body)
    assert (code, answer["error"]["type"]) == (422, "invalid_request")
    assert complaint in answer["error"]["message"]
    assert '"queries": ["Where was' in answer["error"]["message"]
    if body == b"{bad":
        assert answer["error"]["fields"] == [[]]


def test_a_failed_question_has_an_error_and_no_answer(service: Service, shared_backends: Backends) -> None:
    shared_backends.retriever.script = lambda lookup: truncated if question_number(lookup.query) == 2 else None
    code, body = service.ask(1, 2, 3)
    assert code == 200
    assert ["answer" in row for row in body["results"]] == [True, False, True]
    error = body["results"][1]["error"]
    assert (error["type"], error["service"]) == ("service_failed", "retriever")
    assert error["message"].startswith("retriever at http://127.0.0.1:")


def test_a_request_all_of_whose_questions_failed_has_failed(service: Service, shared_backends: Backends) -> None:
    shared_backends.engine.script = lambda exchange: status(500)
    code, body = service.ask(1, 2)
    assert (code, body["error"]["type"], body["error"]["service"]) == (503, "service_failed", "searcher's engine")
    assert [row["question"] for row in body["results"]] == ["Who made thing-1?", "Who made thing-2?"]
    assert not any("answer" in row for row in body["results"])


def test_what_the_engine_aborts_is_not_an_answer(service: Service, shared_backends: Backends) -> None:
    shared_backends.engine.script = lambda exchange: Abort(3)
    code, body = service.ask(1)
    assert (code, body["error"]["type"]) == (503, "interrupted")


def test_what_is_counted(service: Service, shared_backends: Backends) -> None:
    before = service.metrics()
    service.ask(1)
    service.ask(2, max_turns=0)
    shared_backends.retriever.script = lambda lookup: status(500)
    service.ask(3)
    after = service.metrics()
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown['requests_total{status="200"}'] == 2
    assert grown['requests_total{status="503"}'] == 1
    assert {kind: grown[f'questions_total{{ending="{kind}"}}'] for kind in ("answered", "out_of_turns", "failed")} == {
        "answered": 1,
        "out_of_turns": 1,
        "failed": 1,
    }
    assert grown['failures_total{service="retriever"}'] == 1
    assert grown['seconds_count{stage="search"}'] == 2
    assert after["sessions"] == after["waiting"] == 0


def test_a_client_that_goes_away_ends_its_sessions(service: Service, shared_backends: Backends) -> None:
    shared_backends.engine.script = lambda exchange: Abort(1, held=True)
    body = b'{"queries": ["Who made thing-5?"]}'
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_until(lambda: shared_backends.engine.in_flight == 1)
    wait_until(lambda: shared_backends.engine.in_flight == 0)
    assert service.metrics()["sessions"] == 0


def test_only_this_machine_can_ask(service: Service) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", service.port))


def test_a_thinker_asks_it(service: Service, shared_backends: Backends, qwen: Any, qwen_folder: Path) -> None:
    with ScriptedEngine(qwen, THINKER) as policy:
        one = thinker(searcher_url=f"{service.url}/search")
        (sample,) = generate(one, arguments(policy, qwen_folder), [new_sample(6)])
        assert sample.reward == 1.0
        assert "<information>thing-6 was made by name-6.</information>" in sample.response
        (call,) = sample.metadata[RECORD_KEY]["calls"]
        assert call["passages"] == [{"title": "About thing-6", "text": "It was made by name-6 long ago."}]
        shared_backends.retriever.script = lambda lookup: status(500)
        (failed,) = generate(one, arguments(policy, qwen_folder), [new_sample(6)])
    record = failed.metadata[RECORD_KEY]
    assert (failed.status.name, failed.remove_sample, record["failed_service"]) == ("FAILED", True, "searcher")
    assert '"service":"retriever"' in record["error"]
