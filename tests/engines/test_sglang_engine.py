"""SGLang's /generate: ids and log-probabilities are the engine's own, and a bad answer never becomes data."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from slime_search.core.engine import Completion, Finish
from slime_search.engines.sglang import SGLangEngine
from slime_search.errors import ProtocolError, ServiceUnavailable
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from tests.support.loopback import edited, in_order, truncated
from tests.support.policies import think_answer, turns_of
from tests.support.scripted_engine import Abort, ScriptedEngine

PARAMS = {"max_new_tokens": 100, "temperature": 1.0, "skip_special_tokens": False, "stop": ["</answer>"]}


@pytest.fixture
def server(qwen: Any) -> Any:
    with ScriptedEngine(qwen, turns_of(think_answer("name-7") + " never sampled")) as running:
        yield running


def prompt(qwen: Any) -> list[int]:
    ids: list[int] = qwen.encode("<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    return ids


def generate(
    server: ScriptedEngine, input_ids: list[int], *, session_id: str | None = None, **options: Any
) -> Completion:
    async def work() -> Completion:
        client = ServiceClient("engine", PooledSender(concurrency=4, timeout_s=10), attempts=2)
        try:
            return await SGLangEngine(client, server.url, **options).generate(input_ids, PARAMS, session_id=session_id)
        finally:
            await close_sessions()

    return asyncio.run(work())


@pytest.mark.parametrize("return_logprob", [True, False])
def test_the_completion_is_what_was_sampled(return_logprob: bool, server: ScriptedEngine, qwen: Any) -> None:
    before = json.dumps(PARAMS)
    completion = generate(server, prompt(qwen), return_logprob=return_logprob)
    (exchange,) = server.exchanges
    assert completion.token_ids == exchange.output_ids
    assert completion.log_probs == (exchange.log_probs if return_logprob else None)
    assert completion.finish is Finish.STOP
    assert completion.meta_info["weight_version"] == "default"
    assert exchange.body == {"input_ids": prompt(qwen), "sampling_params": PARAMS, "return_logprob": return_logprob}
    assert json.dumps(PARAMS) == before


@pytest.mark.parametrize(("sticky", "session", "sent"), [(True, "s1", "s1"), (False, "s1", None), (True, None, None)])
def test_the_session_id_is_sent_to_a_router_that_hashes(
    sticky: bool, session: str | None, sent: str | None, server: ScriptedEngine, qwen: Any
) -> None:
    generate(server, prompt(qwen), sticky=sticky, session_id=session)
    assert server.exchanges[0].headers.get("X-SMG-Routing-Key") == sent


def test_extra_fields_and_a_base_url_with_a_slash(server: ScriptedEngine, qwen: Any) -> None:
    server.url += "/"
    generate(server, prompt(qwen), extra={"return_routed_experts": True})
    assert server.exchanges[0].body["return_routed_experts"] is True


@pytest.mark.parametrize("tokens", [0, 5])
@pytest.mark.parametrize("return_logprob", [True, False])
def test_an_abort_brings_what_was_sampled_so_far(
    tokens: int, return_logprob: bool, server: ScriptedEngine, qwen: Any
) -> None:
    server.script = lambda exchange: Abort(tokens)
    completion = generate(server, prompt(qwen), return_logprob=return_logprob)
    assert completion.finish is Finish.ABORT
    assert completion.token_ids == server.exchanges[0].output_ids
    assert len(completion.token_ids) == tokens


def without(*keys: str) -> Callable[[Any], Any]:
    """The answer without the named fields, also inside meta_info."""

    def edit(answer: Any) -> Any:
        answer["meta_info"] = {k: v for k, v in answer["meta_info"].items() if k not in keys}
        return {k: v for k, v in answer.items() if k not in keys}

    return edit


def with_rows(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    def edit(answer: Any) -> Any:
        answer["meta_info"]["output_token_logprobs"] = change(answer["meta_info"]["output_token_logprobs"])
        return answer

    return edit


def first_row(*row: Any) -> Callable[[Any], Any]:
    return with_rows(lambda rows: [list(row), *rows[1:]])


UNTRAINABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no log-probabilities": (without("output_token_logprobs"), "no meta_info.output_token_logprobs.*return_logprob"),
    "other ids": (lambda a: {**a, "output_ids": a["output_ids"][:-1]}, "name different tokens"),
    "ids without log-probabilities": (with_rows(lambda rows: []), "name different tokens"),
    "a null log-probability": (with_rows(lambda rows: [[None, rows[0][1], None], *rows[1:]]), "without a log-prob"),
}


@pytest.mark.parametrize(("edit", "message"), UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_an_answer_that_can_not_be_trained_on_stops_the_run(
    edit: Callable[[Any], Any], message: str, server: ScriptedEngine, qwen: Any
) -> None:
    server.script = lambda exchange: edited(edit)
    with pytest.raises(ProtocolError, match=message) as caught:
        generate(server, prompt(qwen))
    assert server.url in str(caught.value)
    assert len(server.exchanges) == 1


def test_without_log_probabilities_the_ids_must_come_by_themselves(server: ScriptedEngine, qwen: Any) -> None:
    server.script = lambda exchange: edited(without("output_ids"))
    with pytest.raises(ProtocolError, match="no output_ids"):
        generate(server, prompt(qwen), return_logprob=False)


def test_log_probabilities_alone_bring_the_ids_too(server: ScriptedEngine, qwen: Any) -> None:
    server.script = lambda exchange: edited(without("output_ids"))
    assert generate(server, prompt(qwen)).token_ids == server.exchanges[0].output_ids


GARBAGE: dict[str, Callable[[Any], Any]] = {
    "a list": lambda answer: [answer],
    "null": lambda answer: None,
    "an error object": lambda answer: {"error": "out of memory"},
    "no text": without("text"),
    "no meta_info": lambda answer: {**answer, "meta_info": None},
    "no finish_reason": without("finish_reason"),
    "an unknown finish_reason": lambda a: {**a, "meta_info": {**a["meta_info"], "finish_reason": {"type": "tired"}}},
    "rows that are no list": with_rows(lambda rows: "rows"),
    "an empty row": first_row(),
    "a row without an id": first_row(-0.5),
    "an id that is null": lambda a: first_row(-0.5, None, None)(without("output_ids")(a)),
    "an id that is text": lambda a: first_row(-0.5, "7", None)(without("output_ids")(a)),
    "ids that are no list": lambda answer: {**answer, "output_ids": "ids"},
}


@pytest.mark.parametrize("edit", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_retried_and_then_a_typed_error(
    edit: Callable[[Any], Any], server: ScriptedEngine, qwen: Any
) -> None:
    server.script = in_order(edited(edit))
    outcome: Completion | ProtocolError
    try:
        outcome = generate(server, prompt(qwen))
    except ProtocolError as error:
        outcome = error
    # Either is sound: another attempt, or a stop. Data made of garbage and an untyped crash are not.
    if isinstance(outcome, Completion):
        assert len(server.exchanges) == 2
        assert outcome.token_ids == server.exchanges[1].output_ids
    server.script = lambda exchange: edited(edit)
    with pytest.raises((ServiceUnavailable, ProtocolError)):
        generate(server, prompt(qwen))


@pytest.mark.parametrize("ids", ["ids", [None], ["7"], [1.5], {"0": 7}], ids=repr)
def test_output_ids_that_are_no_ids_are_never_trained_on(ids: Any, server: ScriptedEngine, qwen: Any) -> None:
    server.script = lambda exchange: edited(lambda answer: {**answer, "output_ids": ids})
    with pytest.raises((ServiceUnavailable, ProtocolError)):
        generate(server, prompt(qwen), return_logprob=False)


def test_truncated_json_is_retried(server: ScriptedEngine, qwen: Any) -> None:
    server.script = in_order(truncated)
    assert generate(server, prompt(qwen)).token_ids == server.exchanges[1].output_ids


def test_an_abort_in_the_queue_brings_nothing(server: ScriptedEngine, qwen: Any) -> None:
    aborted = {"finish_reason": {"type": "abort"}}

    def edit(answer: Any) -> Any:
        return {"text": answer["text"], "meta_info": aborted}

    server.script = lambda exchange: edited(edit)
    completion = generate(server, prompt(qwen))
    assert (completion.token_ids, completion.finish) == ([], Finish.ABORT)
