"""The recipes through a router that drops what it does not know of a request, as sglang-router 0.3.2 does."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slime_search.engines.server_info import ServerKind, ask_server
from slime_search.errors import ProtocolError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from tests.support.chat_rollouts import asking, by_chat_turn, check_exact, diligent, generate_all, tools_recipe
from tests.support.loopback import in_order, status
from tests.support.rollouts import arguments
from tests.support.scripted_chat import ChatExchange, ScriptedChat
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_router import ATTEMPTS, ScriptedRouter
from tests.support.told_tokens import REPLAY

Status = LocalSample.Status
STICKY = {"router_policy": "consistent_hashing"}


@pytest.fixture
def sglang(tokenizer: Any) -> Iterator[ScriptedChat]:
    """An engine with both routes."""
    with ScriptedChat(tokenizer, by_chat_turn(diligent), generates=True) as running:
        yield running


def behind(router: ScriptedRouter, checkpoint: Path, **overrides: Any) -> Any:
    args = arguments(router, checkpoint, **STICKY)  # type: ignore[arg-type]
    return type(args)(**{**vars(args), **overrides})


def test_tool_calls_go_over_generate_where_chats_lose_their_ids(
    sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [asking(n) for n in range(8)]
    with ScriptedRouter(sglang) as router, caplog.at_level(logging.INFO):
        results = generate_all(tools_recipe(retriever), behind(router, checkpoint), samples)
    for sample in results:
        check_exact(sglang, sample)
        assert (sample.status, sample.reward) == (Status.COMPLETED, 1.0)
        assert sample.metadata[RECORD_KEY]["drift"] == {"realigned": 0, "forked": 0, "lost_tokens": 0}
    assert not any(isinstance(exchange, ChatExchange) for exchange in sglang.turns)
    assert len(sglang.probes) == 2  # a chat, and /generate
    (told,) = [record.getMessage() for record in caplog.records if "go over /generate" in record.getMessage()]
    assert router.url in told and "drops input_ids" in told


def test_the_chat_route_is_taken_where_it_takes_ids(
    sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    (sample,) = generate_all(tools_recipe(retriever), arguments(sglang, checkpoint, **STICKY), [asking()])
    check_exact(sglang, sample)
    assert all(isinstance(exchange, ChatExchange) for exchange in sglang.turns)


@pytest.mark.parametrize(("token_in", "probes"), [("generate", 0), ("auto", 2)])
def test_generate_can_be_told(
    token_in: str, probes: int, sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    one = tools_recipe(retriever, chat={"token_in": token_in})
    with ScriptedRouter(sglang) as router:
        (sample,) = generate_all(one, behind(router, checkpoint), [asking()])
    check_exact(sglang, sample)
    assert len(sglang.probes) == probes


def test_sglang_of_slimes_image_takes_ids_in_chats(
    tokenizer: Any, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    """0.5.15 tells the prompt's ids, and the sampled ones beside their log-probabilities."""
    with ScriptedChat(tokenizer, by_chat_turn(diligent), generates=True, style="sglang 0.5.15") as engine:
        args = arguments(engine, checkpoint, **STICKY)
        (sample,) = generate_all(tools_recipe(retriever), args, [asking()])
        check_exact(engine, sample)
        assert all(isinstance(exchange, ChatExchange) for exchange in engine.turns)
        begun = len(engine.turns)
        generate_all(tools_recipe(retriever, return_logprob=False), args, [asking(session_id="other")])
    # Without log-probabilities it returns no sampled ids in chats.
    assert not any(isinstance(exchange, ChatExchange) for exchange in engine.turns[begun:])


@pytest.mark.parametrize("style", ["patched", "text"])
def test_an_old_engine_is_asked_over_generate_if_its_chats_return_no_ids(
    style: Any, tokenizer: Any, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(diligent), generates=True, takes_ids=False, style=style) as engine:
        (sample,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
        check_exact(engine, sample)
    assert not any(isinstance(exchange, ChatExchange) for exchange in engine.turns)


def test_no_message_is_empty(sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path) -> None:
    generate_all(tools_recipe(retriever), arguments(sglang, checkpoint), [asking()])
    assert all(message["content"] for exchange in sglang.exchanges for message in exchange.body["messages"])


@pytest.mark.parametrize("token_in", ["auto", "input_ids", "messages"])
def test_a_router_without_a_way_is_named_with_what_it_drops(
    token_in: str, tokenizer: Any, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    one = tools_recipe(retriever, chat={"token_in": token_in})
    with (
        ScriptedChat(tokenizer, lambda context: "yes<|im_end|>") as engine,
        ScriptedRouter(engine) as router,
        pytest.raises(ProtocolError) as caught,
    ):
        generate_all(one, behind(router, checkpoint), [asking()])
    for part in (f"the router at {router.url}", "0.4.2", "without the sampled token ids", "chat.token_in"):
        assert part in str(caught.value)
    assert ("/generate: " in str(caught.value)) == (token_in == "auto")


def test_a_chat_route_that_refuses_tools_is_told_at_the_start(
    tokenizer: Any, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    """As vLLM without --enable-auto-tool-choice."""
    with ScriptedChat(tokenizer, by_chat_turn(diligent), style="vllm") as engine:
        engine.script = lambda exchange: status(400, '"auto" tool choice requires --enable-auto-tool-choice')
        with pytest.raises(ProtocolError, match=r"can't be used .*HTTP 400.*--enable-auto-tool-choice"):
            generate_all(tools_recipe(retriever), arguments(engine, checkpoint), [asking(n) for n in range(4)])
    assert len(engine.exchanges) == 1


@pytest.mark.parametrize("passes_on", [(), ("return_routed_experts",)])
def test_routing_replay_is_refused_where_the_experts_are_dropped(
    passes_on: tuple[str, ...], sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    with ScriptedRouter(sglang, passes_on=passes_on) as router:
        args = behind(router, checkpoint, **REPLAY)
        if passes_on:
            (sample,) = generate_all(tools_recipe(retriever), args, [asking()])
            check_exact(sglang, sample)
            return
        with pytest.raises(ProtocolError, match=r"routed_experts.*--use-rollout-routing-replay"):
            generate_all(tools_recipe(retriever), args, [asking()])


@pytest.mark.parametrize("attempts", [4, 8])
def test_a_routers_requests_count_as_ours(
    attempts: int, sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    sglang.script = lambda exchange: None if exchange.is_probe else status(503)
    with ScriptedRouter(sglang) as router:
        one = tools_recipe(retriever, engine_attempts=attempts, chat={"token_in": "generate"})
        (sample,) = generate_all(one, behind(router, checkpoint), [asking()])
    assert (sample.status, sample.remove_sample) == (Status.FAILED, True)
    assert router.asked == ATTEMPTS * (1 + -(-(attempts - 1) // ATTEMPTS))


def test_a_fault_that_passes_leaves_no_trace(
    sglang: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    sglang.script = in_order(None, None, *[status(503)] * (ATTEMPTS + 1))
    with ScriptedRouter(sglang) as router:
        one = tools_recipe(retriever, engine_attempts=8)
        (sample,) = generate_all(one, behind(router, checkpoint), [asking()])
    check_exact(sglang, sample)
    assert sample.reward == 1.0


def test_router_and_engine_are_told_apart(qwen: Any) -> None:
    with ScriptedEngine(qwen, lambda context: "x") as engine, ScriptedRouter(engine) as router:
        engine.context_length = 4096
        there = asyncio.run(ask_server(engine.url))
        through = asyncio.run(ask_server(f"{router.url}/"))
    assert (there.kind, there.workers, str(there)) == (ServerKind.ENGINE, (), f"SGLang 0.5.23 at {engine.url}")
    assert (through.kind, through.workers) == (ServerKind.ROUTER, (engine.url,))
    assert str(through) == f"the router at {router.url}, before 1 × SGLang 0.5.23"
    assert there.limits == through.limits is not None
    gone = asyncio.run(ask_server(router.url))
    assert (gone.kind, gone.limits) == (ServerKind.UNKNOWN, None)
