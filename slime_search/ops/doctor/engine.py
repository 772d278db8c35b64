"""An engine that runs already: what it takes and returns."""

import asyncio
from collections.abc import Iterator
from typing import Any

from slime_search.engines.chat import ChatEngine, TokenIn
from slime_search.engines.sglang import SGLangEngine
from slime_search.errors import ProtocolError, ServiceError
from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.ops.launch.readiness import ask
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions

_TIMEOUT_S = 60.0
_ATTEMPTS = 1
_SAMPLING = {"max_new_tokens": 4, "temperature": 1.0, "skip_special_tokens": False}


def generate(setup: Setup) -> Iterator[Result]:
    """``/generate`` takes token ids and returns token ids with log-probabilities."""
    if setup.engine_url is None:
        yield skipped("engine", "slime starts it with the training; --engine-url looks at one that runs")
        return
    url = setup.engine_url
    if not _is_reachable(url):
        yield failed("engine", f"{url} is not reachable", "start SGLang, or name where it or its router listens")
        return
    tokenizer = setup.tokenizer
    prompt = list(tokenizer.encode("Who wrote Hamlet?", add_special_tokens=False))
    try:
        completion = asyncio.run(_once(SGLangEngine(_client(), url).generate(prompt, _SAMPLING)))
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
    told = f"took {len(prompt)} input_ids, returned {len(completion.token_ids)} ids with log-probabilities"
    yield passed("/generate", told + (f", weight version {version}" if version is not None else ""))


def chat(setup: Setup) -> Iterator[Result]:
    """``/v1/chat/completions`` takes token ids, or at least says which ones it rendered."""
    if setup.engine_url is None:
        return
    if not setup.calls_tools:
        yield skipped("chat route", "the recipe with tags uses /generate")
        return
    if not _is_reachable(setup.engine_url):
        raise Waits("the engine has to be reachable first")
    engine = ChatEngine(
        _client(),
        setup.engine_url,
        decode=lambda ids: "",
        tools=TOOL_SCHEMAS,
        model=setup.config.chat.model,
        template_kwargs=setup.config.chat.template_kwargs,
        return_logprob=setup.config.return_logprob,
    )
    try:
        taken = asyncio.run(_once(engine.token_in()))
    except (ServiceError, ProtocolError) as error:
        yield failed("chat route", str(error), "start SGLang of July 2026 or later, or use the recipe with tags")
        return
    asked = setup.config.chat.token_in
    if asked not in ("auto", taken):
        yield failed("chat route", f"takes {taken}, and chat.token_in is {asked!r}", 'set chat.token_in to "auto"')
    elif taken is TokenIn.INPUT_IDS:
        yield passed("chat route", "input_ids: every turn sends token ids, and ids come back")
    else:
        yield warned(
            "chat route",
            "messages: the server renders each turn anew and returns ids; trajectories may be realigned or forked",
            "SGLang of July 2026 or later takes input_ids; with messages leave out --partial-rollout",
        )


def _is_reachable(url: str) -> bool:
    return not ask(f"{url}/model_info").state.startswith("not reachable")


def _client() -> ServiceClient:
    return ServiceClient("engine", PooledSender(concurrency=1, timeout_s=_TIMEOUT_S), attempts=_ATTEMPTS)


async def _once(work: Any) -> Any:
    try:
        return await work
    finally:
        await close_sessions()


CHECKS = (generate, chat)
