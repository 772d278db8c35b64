"""The Searcher: the same loop as every agent's, on a frozen engine, which is itself a tool."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slime_search.core.agent import Agent, Budget
from slime_search.core.engine import Engine
from slime_search.core.tokens import TokenCodec, Tokenizer
from slime_search.core.tool import Passage, Tool, ToolResult, check_query
from slime_search.core.trajectory import Ending, Owner, Trajectory
from slime_search.dialects.tags import SEARCH_R1_TAGS, TagDialect
from slime_search.engines.completions import CompletionsEngine
from slime_search.engines.sglang import SGLangEngine
from slime_search.errors import DelegateFailed, Interrupted
from slime_search.recipes.thinker_searcher.client import Finding, SearcherTurn
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.recipes.thinker_searcher.prompt import searcher_prompt
from slime_search.transport.client import PooledSender, ServiceClient


class Searcher:
    """Answers questions, many at a time. Nothing of it is trained on.

    Args:
        engine: the frozen model's.
        codec: with the frozen model's tokenizer and the dialect's tags.
        search: what its searches go to.
        prompt: from a question and the searches that it may take to the token ids to begin with.
        budget: its limits; ``tool_turns`` are searches a question.
        sampling_params: for the engine, beside the number of tokens and the stop strings.
        dialect: how it writes.
    """

    def __init__(
        self,
        engine: Engine,
        codec: TokenCodec,
        search: Tool,
        *,
        prompt: Callable[[str, int], list[int]],
        budget: Budget,
        sampling_params: Mapping[str, Any] | None = None,
        dialect: TagDialect = SEARCH_R1_TAGS,
    ) -> None:
        self._agent = Agent(engine, dialect, dict.fromkeys(dialect.tools, search), codec, role="searcher")
        self._prompt = prompt
        self._budget = budget
        self._sampling_params = {
            "temperature": 0.0,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **(sampling_params or {}),
        }

    async def __call__(self, query: str) -> ToolResult:
        """Answers one question as a tool. Raises ServiceError, as ``find`` does."""
        return (await self.find(query)).result()

    async def find(self, question: str, *, max_turns: int | None = None) -> Finding:
        """What it finds out about ``question``, in ``max_turns`` searches at most; None for the budget's.

        Raises:
            InvalidQuery: the question is too long.
            DelegateFailed: its engine or its search failed after the retries; names that service.
            Interrupted: its engine aborted.
        """
        check_query(question)
        budget = self._budget if max_turns is None else replace(self._budget, tool_turns=max_turns)
        trajectory = Trajectory(self._prompt(question, budget.tool_turns))
        start = time.perf_counter()
        await self._agent.run(trajectory, self._sampling_params, budget)
        total_s = time.perf_counter() - start
        if trajectory.failed_service is not None:
            raise DelegateFailed(trajectory.failed_service, str(trajectory.error))
        if trajectory.ending is Ending.ABORTED:
            raise Interrupted("the searcher's engine aborted before there was an answer")
        return _finding(trajectory, total_s)


def _finding(trajectory: Trajectory, total_s: float) -> Finding:
    assert trajectory.ending is not None
    passages = dict.fromkeys(passage for call in trajectory.calls for passage in call.passages)
    search_s = sum(call.latency_s for call in trajectory.calls)
    return Finding(
        answer=trajectory.answer,
        ending=trajectory.ending.value,
        turns=_turns(trajectory),
        queries=tuple(call.query for call in trajectory.calls),
        passages=tuple[Passage, ...](passages),
        seconds={"total": total_s, "model": total_s - search_s, "search": search_s},
    )


def _turns(trajectory: Trajectory) -> tuple[SearcherTurn, ...]:
    """What was written turn by turn, each with what came back."""
    turns = []
    written = ""
    for segment in trajectory.segments:
        if segment.owner is Owner.MODEL:
            written += segment.text
        else:
            turns.append(SearcherTurn(written, segment.text))
            written = ""
    return (*turns, SearcherTurn(written)) if written else tuple(turns)


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
    return ServiceClient(ENGINE, sender, attempts=config.engine_attempts, patience_s=config.engine_timeout_s)
