"""What the service serves: a Searcher on a frozen model, and what to wait for before it can."""

import os
from dataclasses import dataclass
from enum import StrEnum

from slime_search.engines.base import Engine
from slime_search.errors import ConfigError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.recipes.base import search_tool
from slime_search.searcher.building import completions_engine, searcher_of, sglang_engine
from slime_search.searcher.config import ThinkerConfig
from slime_search.searcher.searcher import Searcher
from slime_search.searcher.warm_up import Check, WarmUp
from slime_search.tokens import Tokenizer

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
