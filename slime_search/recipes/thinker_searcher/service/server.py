"""What the service serves: a Searcher on a frozen model, and what to wait for before it can."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

from fastapi import FastAPI

from slime_search.core.engine import Engine
from slime_search.core.tokens import Tokenizer
from slime_search.errors import ConfigError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.recipes.base import search_tool
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.recipes.thinker_searcher.searcher import Searcher, completions_engine, searcher_of, sglang_engine
from slime_search.recipes.thinker_searcher.service.app import Check, WarmUp, create_app
from slime_search.recipes.thinker_searcher.service.sessions import Metrics, Sessions
from slime_search.transport.client import close_sessions
from slime_search.transport.middleware import Drain
from slime_search.transport.serving import (
    SIGNALS,
    allow_many_connections,
    draining_server,
    open_listener,
    stop_at_end_of_stdin,
    url_of,
)

ENGINE_KEY = "SEARCHER_ENGINE_KEY"
"""The environment variable with the bearer token of an engine that asks for one."""


class EngineApi(StrEnum):
    SGLANG = "sglang"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class FrozenModel:
    """Where the Searcher's model is served, and how it is spoken to. ``checkpoint`` is read for its tokenizer."""

    checkpoint: str
    url: str
    api: EngineApi
    name: str

    def engine(self, config: ThinkerConfig) -> Engine:
        """Its engine. Raises ConfigError where the checkpoint has no tokenizer."""
        if self.api is EngineApi.SGLANG:
            return sglang_engine(config, self.url)
        token = os.environ.get(ENGINE_KEY)
        return completions_engine(config, self.url, self.tokenizer(), model=self.name, token=token)

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer. Raises ConfigError."""
        try:
            return load_tokenizer(self.checkpoint)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--model {self.checkpoint}: no tokenizer can be read from it ({error})") from error


def searcher_and_warm_up(config: ThinkerConfig, frozen: FrozenModel) -> tuple[Searcher, WarmUp]:
    """The Searcher, and the checks that it is ready. Nothing is asked yet.

    Raises:
        ConfigError: a setting does not fit.
    """
    searcher = searcher_of(config, frozen.engine(config), frozen.tokenizer(), search_tool(config))
    # A check is repeated until it succeeds, so that the state is never older than one attempt.
    once = config.model_copy(update={"engine_attempts": 1, "search_attempts": 1})
    engine, prompt_ids = frozen.engine(once), frozen.tokenizer().encode("Ready?", add_special_tokens=False)
    checks: dict[str, Check] = {
        "engine": lambda: engine.generate(prompt_ids, {"max_new_tokens": 1, "temperature": 0.0})
    }
    if config.search_backend == "local":
        search = search_tool(once)
        checks["retriever"] = lambda: search("ready?")
    return searcher, WarmUp(checks)


def serve(
    searcher: Searcher,
    warm_up: WarmUp,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    concurrency: int = 256,
    queue_size: int = 4_096,
    exit_with_parent: bool = False,
) -> None:
    """Serves until SIGTERM, SIGINT or, with ``exit_with_parent``, the end of stdin. Call it from the main thread.

    A signal lets the questions under way be answered and refuses new ones; a second signal gives them 5 seconds. One
    line with the URL goes to stdout when the service is ready.

    Raises:
        ListenError: the address or port can't be had.
        SlimeSearchError: engine or search will never answer; the service has ended by then.
    """
    allow_many_connections()
    listener = open_listener(host, port)
    url = url_of(listener)
    drain = Drain()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm_up())
        yield
        warming.cancel()
        with suppress(asyncio.CancelledError):
            await warming
        await close_sessions()

    async def _warm_up() -> None:
        await warm_up.run()
        if warm_up.error is not None:
            server.should_exit = True
            return
        sys.stdout.write(f"searcher ready at {url}\n")
        sys.stdout.flush()

    metrics = Metrics()
    sessions = Sessions(searcher, concurrency=concurrency, queue_size=queue_size, metrics=metrics)
    server = draining_server(create_app(sessions, warm_up, drain, metrics, lifespan), drain, lifespan=True)
    # A signal waits until there is a loop that can end in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if exit_with_parent:
        threading.Thread(target=stop_at_end_of_stdin, args=(server,), name="parent-watch", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if warm_up.error is not None:
        raise warm_up.error
