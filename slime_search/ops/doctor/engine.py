"""An engine that runs already, or a router before it: what it is, what it takes and what it returns."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

from slime_search.engines.chat import ChatEngine
from slime_search.engines.server_info import ServerInfo, ServerKind, ask_server
from slime_search.engines.sglang import ROUTED_EXPERTS, SGLangEngine
from slime_search.engines.token_in import TokenIn
from slime_search.errors import ProtocolError, ServiceError
from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from slime_search.transport.readiness import ask

T = TypeVar("T")

_TIMEOUT_S = 60.0
_ATTEMPTS = 1
_RESERVE = 8
"""Tokens of its context that SGLang keeps for itself, and nobody misses."""
_SAMPLING = {"max_new_tokens": 4, "temperature": 1.0, "skip_special_tokens": False}
_WAYS = {
    TokenIn.INPUT_IDS: "token ids go in the chat body of every turn, and ids come back",
    TokenIn.GENERATE: "chats lose their token ids here, so every turn's ids go over /generate, and ids come back",
    TokenIn.MESSAGES: "the server renders each turn anew and returns ids; trajectories may be realigned or forked",
}


def server(setup: Setup) -> Iterator[Result]:
    """What stands at the address: a router or an engine, its version, its context."""
    if setup.engine_url is None:
        yield skipped("engine", "slime starts it with the training; --engine-url looks at one that runs")
        return
    info = _info(setup.engine_url)
    if info.kind is ServerKind.UNKNOWN:
        fix = "start SGLang, or name where it or its router listens"
        answer = ask(f"{setup.engine_url.rstrip('/')}/health")
        why = f"no answer to GET /workers, and to GET /health: {answer}" if answer.answers else str(answer)
        yield failed("engine", f"{setup.engine_url}: {why}", fix)
        return
    if info.is_router and not info.workers:
        yield failed("engine", str(info), "start the engines; slime's register themselves with its router")
        return
    finding = str(info)
    if info.is_router:
        finding += f" ({', '.join(info.workers)})"
    wanted = setup.run.max_context_len
    if not (info.is_router or info.software or info.version or info.limits):
        fix = "look whether an engine or its router listens there; the next checks ask it for tokens"
        yield warned("engine", f"{setup.engine_url} answers, and tells nothing that an engine tells of itself", fix)
    elif info.limits is None:
        yield passed("engine", f"{finding}; does not tell how long its context is")
    elif info.limits.total_tokens + _RESERVE < wanted:
        yield warned(
            "engine",
            f"{finding}; {info.limits.total_tokens} tokens of prompt and response, and MAX_CONTEXT_LEN is {wanted}",
            "serve with a longer --context-length; as it is, longer trajectories end as truncated",
        )
    else:
        yield passed("engine", f"{finding}; {info.limits.total_tokens} tokens of prompt and response")


def generate(setup: Setup) -> Iterator[Result]:
    """``/generate`` takes token ids and returns token ids with log-probabilities."""
    if setup.engine_url is None:
        return
    url = _reached(setup.engine_url)
    tokenizer = setup.tokenizer
    prompt = list(tokenizer.encode("Who wrote Hamlet?", add_special_tokens=False))
    try:
        completion = _run(SGLangEngine(_client(), url).generate(prompt, _SAMPLING))
    except (ServiceError, ProtocolError) as error:
        report = warned if setup.calls_tools else failed
        yield report("/generate", str(error), "serve with SGLang; other servers do not have it")
        return
    outside = [i for i in completion.token_ids if i >= (setup.checkpoint.vocabulary or len(tokenizer))]
    if outside:
        fix = "serve HF_CHECKPOINT, or point HF_CHECKPOINT at what is served"
        yield failed("/generate", f"returns token {outside[0]}, which HF_CHECKPOINT does not have", fix)
        return
    version = completion.meta_info.get("weight_version")
    finding = f"took {len(prompt)} input_ids, returned {len(completion.token_ids)} ids with log-probabilities"
    yield passed("/generate", finding + (f", weight version {version}" if version is not None else ""))


def routing_replay(setup: Setup) -> Iterator[Result]:
    """The routed experts, which slime's --use-rollout-routing-replay trains with, come back."""
    if setup.engine_url is None:
        return
    url = _reached(setup.engine_url)
    if _returns_experts(url):
        yield passed("routing replay", "/generate returns the routed experts")
        return
    at_engine = next((worker for worker in _info(url).workers if _returns_experts(worker)), None)
    if at_engine is None:
        yield skipped("routing replay", "no routed experts come back: not --enable-return-routed-experts, or not a MoE")
    else:
        yield warned(
            "routing replay",
            f"the router drops {ROUTED_EXPERTS}, which the engine at {at_engine} answers",
            "leave out --use-rollout-routing-replay, or use a router that passes it on, such as slime's",
        )


def chat(setup: Setup) -> Iterator[Result]:
    """For tool calling: which way a turn's token ids take, over chats or over ``/generate``, and why."""
    if setup.engine_url is None:
        return
    if not setup.calls_tools:
        yield skipped("tool calling", "the recipe with tags uses /generate")
        return
    engine = ChatEngine(
        _client(),
        _reached(setup.engine_url),
        tools=TOOL_SCHEMAS,
        model=setup.config.chat.model,
        template_kwargs=setup.config.chat.template_kwargs,
        return_logprob=setup.config.return_logprob,
    )
    asked = setup.config.chat.token_in
    try:
        found = _run(engine.token_in())
    except (ServiceError, ProtocolError) as error:
        yield failed("tool calling", str(error), "serve with SGLang, or use the recipe with tags")
        return
    finding = f"{found}: {_WAYS[found]}"
    if (asked == "input_ids" and found is not TokenIn.INPUT_IDS) or (asked == "generate" and found is TokenIn.MESSAGES):
        yield failed("tool calling", f"{finding}; and chat.token_in is {asked!r}", 'set chat.token_in to "auto"')
    elif TokenIn.MESSAGES in (found, asked):
        fix = "SGLang takes token ids; with messages leave out --partial-rollout"
        yield warned("tool calling", f"messages: {_WAYS[TokenIn.MESSAGES]}", fix)
    else:
        yield passed("tool calling", finding)


def _returns_experts(url: str) -> bool:
    try:
        _run(SGLangEngine(_client(), url, extra={ROUTED_EXPERTS: True}).probe())
    except (ServiceError, ProtocolError):
        return False
    return True


def _reached(url: str) -> str:
    info = _info(url)
    if info.kind is ServerKind.UNKNOWN or (info.is_router and not info.workers):
        raise Waits("the engine has to be reachable first")
    return url


def _info(url: str) -> ServerInfo:
    return asyncio.run(ask_server(url))


def _client() -> ServiceClient:
    return ServiceClient("engine", PooledSender(concurrency=1, timeout_s=_TIMEOUT_S), attempts=_ATTEMPTS)


def _run(work: Awaitable[T]) -> T:
    async def once() -> Any:
        try:
            return await work
        finally:
            await close_sessions()

    result: T = asyncio.run(once())
    return result


CHECKS = (server, generate, routing_replay, chat)
