"""The tool-calling recipe when engine, retriever or budget give out."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slime_search.errors import ProtocolError, TooManyFailures
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from tests.support.chat_rollouts import (
    asking,
    by_chat_turn,
    call,
    chat_turns,
    check_exact,
    diligent,
    generate_all,
    tools_recipe,
)
from tests.support.loopback import cut, edited, in_order, raw, status, truncated
from tests.support.rollouts import arguments, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Abort
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import training_view

Status = LocalSample.Status
STICKY = {"router_policy": "consistent_hashing"}


@pytest.mark.parametrize("at", [0, 1])
def test_an_aborted_trajectory_is_resumed_inside_its_turn(
    at: int, engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    engine.script = in_order(None, *[None] * at, Abort(5))
    one, args = tools_recipe(retriever), arguments(engine, checkpoint, partial_rollout=True, **STICKY)
    (sample,) = generate_all(one, args, [asking()])
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.ABORTED, 0.0, True)
    check_exact(engine, sample)
    (sample,) = generate_all(one, args, [sample])
    check_exact(engine, sample)
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.COMPLETED, 1.0, False)
    assert len(retriever.queries) == 1 and len(engine.turns) == 3


def test_the_probe_is_asked_again_when_an_abort_meets_it(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    def aborted(answer: Any) -> Any:
        choice = answer["choices"][0]
        choice |= {"finish_reason": "abort", "prompt_token_ids": None, "response_token_ids": [], "logprobs": None}
        choice["meta_info"]["output_token_logprobs"] = []
        return {"choices": [choice]}

    engine.script = in_order(edited(aborted))
    (sample,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
    assert (sample.reward, len(engine.probes)) == (1.0, 2)
    check_exact(engine, sample)


def test_a_turn_that_is_too_long_is_truncated(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    (sample,) = generate_all(
        tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()], sampling_params(max_new_tokens=6)
    )
    check_exact(engine, sample)
    assert (sample.status, sample.reward, sample.response_length) == (Status.TRUNCATED, 0.0, 6)


@pytest.mark.parametrize("turn", ["name-7, that much is sure.", call("thing-7")])
def test_what_was_cut_off_is_neither_an_answer_nor_a_call(
    turn: str, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    length = len(tokenizer.encode(turn))
    with ScriptedChat(tokenizer, chat_turns(f"{turn}<|im_end|>"), tokenise=tokenizer.encode) as engine:
        args, params = arguments(engine, checkpoint, **STICKY), sampling_params(max_new_tokens=length)
        (sample,) = generate_all(tools_recipe(retriever), args, [asking()], params)
        check_exact(engine, sample)
    assert (sample.status, sample.response, sample.reward) == (Status.TRUNCATED, turn, 0.0)
    assert sample.metadata[RECORD_KEY]["answer"] is None and retriever.lookups == []


def test_the_context_limit_is_enforced(engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path) -> None:
    (free,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
    limit = len(free.tokens) - 3
    args = arguments(engine, checkpoint, rollout_max_context_len=limit, **STICKY)
    (sample,) = generate_all(tools_recipe(retriever), args, [asking(session_id="other")])
    check_exact(engine, sample)
    assert len(sample.tokens) <= limit


BROKEN = {"500": status(500), "cut": cut, "truncated": truncated, "garbage": raw(b'{"choices": [{"message": 3}]}')}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
def test_a_broken_engine_fails_every_sample_at_the_price_of_one_probe(
    fault: Any, engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    engine.script = lambda exchange: fault
    samples = [asking(n) for n in range(16)]
    generate_all(tools_recipe(retriever), arguments(engine, checkpoint), samples)
    for sample in samples:
        check_failed(sample, "engine")
    assert len(engine.exchanges) == 2


def check_failed(sample: LocalSample, service: str) -> None:
    assert (sample.status, sample.remove_sample) == (Status.FAILED, True)
    assert isinstance(sample.reward, float) and math.isfinite(sample.reward) and sample.reward == 0.0
    assert sample.metadata[RECORD_KEY]["failed_service"] == service
    assert sample.loss_mask == [0] if service == "engine" else sample.loss_mask


def test_an_engine_that_is_down_fails_the_sample_and_is_asked_again_later(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    one, args = tools_recipe(retriever), arguments(engine, checkpoint, **STICKY)
    engine.script = in_order(status(500), status(500))
    (sample,) = generate_all(one, args, [asking()])
    check_failed(sample, "engine")
    (sample,) = generate_all(one, args, [sample])
    assert (sample.status, sample.reward) == (Status.COMPLETED, 1.0)
    check_exact(engine, sample)
    nobody = SimpleNamespace(**{**vars(args), "sglang_router_port": 9})
    (lost,) = generate_all(tools_recipe(retriever), nobody, [asking()])
    check_failed(lost, "engine")


def test_a_broken_retriever_fails_the_sample(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    retriever.script = lambda lookup: status(500)
    (sample,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
    check_failed(sample, "retriever")
    check_exact(engine, sample)
    with pytest.raises(TooManyFailures, match="retriever"):
        generate_all(tools_recipe(retriever, max_failure_share=0.0), arguments(engine, checkpoint), [asking()])


def test_passing_faults_leave_no_trace(engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path) -> None:
    engine.script = in_order(status(503), None, truncated, None, cut)
    retriever.script = in_order(status(502))
    (sample,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
    check_exact(engine, sample)
    assert sample.reward == 1.0


def test_token_in_can_be_told(engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path) -> None:
    one = tools_recipe(retriever, chat={"token_in": "input_ids"})
    (sample,) = generate_all(one, arguments(engine, checkpoint, **STICKY), [asking()])
    check_exact(engine, sample)
    assert engine.probes == []


@pytest.mark.parametrize("style", ["sglang", "patched", "vllm"])
def test_a_server_that_was_said_to_take_ids_and_does_not_is_found_out(
    style: Any, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    one = tools_recipe(retriever, chat={"token_in": "input_ids"})
    with (
        ScriptedChat(tokenizer, lambda context: "x<|im_end|>", takes_ids=False, style=style) as engine,
        pytest.raises(ProtocolError, match=rf"{engine.url}.* conditioned on other tokens"),
    ):
        generate_all(one, arguments(engine, checkpoint), [asking()])


@pytest.mark.parametrize("token_in", ["auto", "input_ids", "messages"])
def test_a_server_without_ids_is_named_with_the_remedy(
    token_in: str, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    one = tools_recipe(retriever, chat={"token_in": token_in})
    with (
        ScriptedChat(tokenizer, by_chat_turn(diligent), style="text") as engine,
        pytest.raises(ProtocolError) as caught,
    ):
        generate_all(one, arguments(engine, checkpoint), [asking(n) for n in range(4)])
    for part in (engine.url, "version 0.4.2", "without the sampled token ids", "SGLang", "--return-tokens"):
        assert part in str(caught.value)


def test_an_answer_that_can_not_be_trained_on_names_the_server(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    def edit(answer: Any) -> Any:
        answer["choices"][0]["meta_info"]["output_token_logprobs"][0][0] = None
        return answer

    engine.script = lambda exchange: edited(edit)
    with pytest.raises(ProtocolError, match=rf"{engine.url}.*finite"):
        generate_all(tools_recipe(retriever), arguments(engine, checkpoint), [asking()])


def test_without_log_probabilities_none_are_kept(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    one = tools_recipe(retriever, return_logprob=False)
    (sample,) = generate_all(one, arguments(engine, checkpoint, **STICKY), [asking()])
    view = training_view(engine.turns)
    assert (sample.tokens, sample.loss_mask, sample.rollout_log_probs) == (view.tokens, view.loss_mask, None)
    assert engine.turns[0].body["logprobs"] is False and sample.reward == 1.0
