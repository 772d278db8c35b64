"""The server's own context: turns get the room there is, and what outgrows it is truncated and no failure."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slime_search.core.agent import Budget
from slime_search.core.engine import ContextLimits
from slime_search.engines.server_info import ask_server
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from tests.support.chat_rollouts import asking, by_chat_turn, check_exact, diligent, generate_all, tools_recipe
from tests.support.loopback import LoopbackServer, json_response
from tests.support.policies import think_answer, think_search, turns_of
from tests.support.rollouts import arguments, generate, new_sample, recipe, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_router import ScriptedRouter
from tests.support.training_view import training_view

Status = LocalSample.Status
STICKY = {"router_policy": "consistent_hashing"}


@pytest.mark.parametrize("through_router", [False, True])
@pytest.mark.parametrize("fewer", range(0, 400, 23))
def test_no_context_is_too_short_for_a_rollout_to_end_without_failure(
    fewer: int, through_router: bool, qwen: Any, qwen_folder: Path, retriever: ScriptedRetriever
) -> None:
    with (
        ScriptedEngine(qwen, turns_of(think_search("thing-7"), think_answer("name-7"))) as engine,
        ScriptedRouter(engine) as router,
    ):
        at = router if through_router else engine
        engine.context_length = 420 - fewer
        args = arguments(at, qwen_folder)  # type: ignore[arg-type]
        (sample,) = generate(recipe(retriever), args, [new_sample()], sampling_params(max_new_tokens=2_000))
        assert len(engine.delivered) == len(engine.exchanges), "the engine refused a request"
    assert sample.status in (Status.COMPLETED, Status.TRUNCATED)
    assert not sample.remove_sample or sample.loss_mask == [0]
    assert len(sample.tokens) <= max(420 - fewer - 2, len(sample.tokens) - sample.response_length + 1)
    if engine.exchanges:
        view = training_view(engine.exchanges)
        assert sample.tokens[: len(view.tokens)] == view.tokens


def test_tool_calling_ends_as_truncated_too(tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(diligent), generates=True) as engine:
        (free,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
        engine.context_length = len(free.tokens)
        (sample,) = generate_all(
            tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking(session_id="other")]
        )
        check_exact(engine, sample)
    assert (sample.status, sample.remove_sample) == (Status.TRUNCATED, False)
    assert sample.metadata[RECORD_KEY]["ending"] == "truncated"
    assert len(sample.tokens) <= len(free.tokens) - 2


def test_the_narrower_limit_counts() -> None:
    wide = Budget(tool_turns=1, corrections=1, turn_tokens=50, context_tokens=1000)
    narrow = wide.within(ContextLimits(93, 98))
    assert wide.within(None) == wide
    assert (narrow.context_tokens, wide.within(ContextLimits(5000, 5004)).context_tokens) == (98, 1000)
    assert [narrow.room(held, 0) for held in (10, 60, 93, 94)] == [50, 38, 5, 0]
    assert narrow.room(60, 30) == 20


class Facts(LoopbackServer):
    """Answers these paths, and no others."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__()
        self._answers = answers

    def routes(self) -> Iterable[web.RouteDef]:
        def handler(answer: Any) -> Any:
            async def handle(_request: web.Request) -> web.Response:
                return answer if isinstance(answer, web.Response) else json_response(answer)

            return handle

        return [web.get(path, handler(answer)) for path, answer in self._answers.items()]


def card(owner: str, length: Any) -> dict[str, Any]:
    return {"data": [{"id": "m", "owned_by": owner, "max_model_len": length}]}


@pytest.mark.parametrize(
    ("answers", "said", "limits"),
    [
        ({"/server_info": {"version": "0.5.23", "max_req_input_len": 90}}, "SGLang 0.5.23", ContextLimits(89, 94)),
        ({"/get_server_info": {"version": "0.5.12", "context_length": 96}}, "SGLang 0.5.12", ContextLimits(89, 94)),
        ({"/v1/models": card("sglang", 96)}, "SGLang unknown", ContextLimits(89, 94)),
        ({"/v1/models": card("vllm", 96), "/version": {"version": "0.32"}}, "vLLM 0.32", ContextLimits(95, 96)),
        ({"/v1/models": {"data": [{"id": "m"}]}}, "engine of version unknown", None),
        ({"/server_info": [1], "/v1/models": {"data": [3]}, "/version": {"version": 4}}, "engine of", None),
        ({"/server_info": {"version": "0.5.23", "max_req_input_len": "90"}}, "SGLang 0.5.23", None),
        ({}, "engine of version unknown", None),
    ],
)
def test_what_servers_tell_of_themselves(answers: dict[str, Any], said: str, limits: ContextLimits | None) -> None:
    with Facts(answers) as server:
        info = asyncio.run(ask_server(server.url))
    assert str(info).startswith(said)
    assert info.limits == limits


@pytest.mark.parametrize("workers", [{"workers": []}, {"workers": [{"url": 3}, "x"]}])
def test_a_router_without_engines(workers: Any) -> None:
    with Facts({"/workers": workers}) as server:
        info = asyncio.run(ask_server(server.url))
    assert info.is_router and info.limits is None and "without an engine" in str(info)
