"""A Searcher as the configuration describes it."""

from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.engines.base import Engine
from slime_search.engines.completions import CompletionsEngine
from slime_search.engines.sglang import SGLangEngine
from slime_search.searcher.config import ThinkerConfig
from slime_search.searcher.prompt import searcher_prompt
from slime_search.searcher.searcher import Searcher
from slime_search.service import PooledSender, ServiceClient
from slime_search.tokens import TokenCodec, Tokenizer
from slime_search.tools.base import Tool

ENGINE = "searcher's engine"
"""What messages call it."""


def searcher_of(config: ThinkerConfig, engine: Engine, tokenizer: Tokenizer, search: Tool) -> Searcher:
    """A Searcher on a frozen model's engine.

    Raises:
        ConfigError: its prompt has no place for the question.
    """
    codec = TokenCodec(tokenizer, SEARCH_R1_TAGS.tags)
    return Searcher(
        engine,
        codec,
        search,
        prompt=searcher_prompt(codec, config.searcher_prompt),
        budget=config.searcher_budget,
        sampling_params={"temperature": config.searcher_temperature},
    )


def sglang_engine(config: ThinkerConfig, url: str) -> SGLangEngine:
    """SGLang's ``/generate`` without log-probabilities, since nothing that a frozen model says is trained on."""
    return SGLangEngine(_client(config), url, return_logprob=False)


def completions_engine(
    config: ThinkerConfig, url: str, tokenizer: Tokenizer, *, model: str, token: str | None
) -> CompletionsEngine:
    """OpenAI's ``/v1/completions``, of vLLM and others."""
    return CompletionsEngine(_client(config), url, tokenizer, model=model, token=token)


def _client(config: ThinkerConfig) -> ServiceClient:
    sender = PooledSender(concurrency=config.searcher_concurrency, timeout_s=config.engine_timeout_s)
    return ServiceClient(ENGINE, sender, attempts=config.engine_attempts)
