"""Thinker–Searcher: a small policy learns when to ask and what, a larger frozen agent searches and answers it."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.cancellation import unless_called_off
from slime_search.core.tool import Tool, ToolResult
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.hooks.metrics import keep_thinker_seconds, thinker_seconds_of
from slime_search.hooks.runtime import load_tokenizer, model_url, runtime
from slime_search.hooks.samples import open_trajectory, write_back
from slime_search.recipes.base import SearchRecipe, budget_of
from slime_search.recipes.search_r1 import TagParts
from slime_search.recipes.thinker_searcher.client import SearcherService
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.recipes.thinker_searcher.log import ThinkerLog
from slime_search.recipes.thinker_searcher.searcher import Searcher, searcher_of, sglang_engine
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.replicas import Replicas

logger = logging.getLogger(__name__)


class ThinkerSearcher(SearchRecipe["_ThinkerParts"]):
    """The hooks of the Thinker. It writes Search-R1's tags; what stands in ``<search>`` is a question to the Searcher.

    Only the Thinker's own tokens are trained on. Of the Searcher it reads the answer and nothing else.
    """

    format = SEARCH_R1_TAGS
    config_class = ThinkerConfig

    async def generate(self, args: Any, sample: Any, sampling_params: Mapping[str, Any]) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one Thinker and returns ``sample``.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: an engine's answers can't be used.
            ConfigError: slime serves no second model of the name ``searcher_model``.
        """
        here = runtime(args)
        parts = self._parts(args)
        config = parts.config
        codec = parts.codec(here.tokenizer)
        trajectory = open_trajectory(sample, codec.prompt)
        known_segments, known_calls = len(trajectory.segments), len(trajectory.calls)
        search = parts.log.watched(sample.index, parts.asked(here.cancelled), trajectory)
        agent = Agent(parts.engine, SEARCH_R1_TAGS, {"search": search}, codec, role="thinker")
        budget = replace(budget_of(args, config, sampling_params), tool_turns=config.thinker_max_turns)
        start = time.perf_counter()
        with parts.log.thinking(sample.index, trajectory):
            await agent.run(trajectory, sampling_params, budget, session_id=sample.session_id, cancelled=here.cancelled)
        waited_s = sum(call.latency_s for call in trajectory.calls[known_calls:])
        seconds = thinker_seconds_of(sample) + time.perf_counter() - start - waited_s
        write_back(args, sample, trajectory, known_segments=known_segments, with_log_probs=config.return_logprob)
        keep_thinker_seconds(sample, seconds)
        parts.failures.observe(trajectory)
        return sample

    def _build(self, args: Any, config: SearchConfig) -> "_ThinkerParts":
        assert isinstance(config, ThinkerConfig)
        return _ThinkerParts(args, config)


class _ThinkerParts(TagParts):
    """With the Searcher: the service, or one in this process."""

    config: ThinkerConfig

    def __init__(self, args: Any, config: ThinkerConfig) -> None:
        super().__init__(args, config)
        self.log = ThinkerLog(max_turns=config.thinker_max_turns, every_turn=config.log_turns)
        if config.searcher_model is None:
            self.searcher: SearcherService | Searcher = searcher_service(config)
            where = ", ".join(config.searcher_urls)
        else:
            url = model_url(args, config.searcher_model, key="searcher_model")
            assert config.searcher_checkpoint is not None
            tokenizer = load_tokenizer(config.searcher_checkpoint)
            self.searcher = searcher_of(config, sglang_engine(config, url), tokenizer, self.search)
            where = f"in this process, on slime's model {config.searcher_model!r} at {url}"
        logger.info(
            "Thinker–Searcher\n  Thinker   %s, up to %d questions\n  Searcher  %s, up to %d searches a question",
            *(args.hf_checkpoint, config.thinker_max_turns, where, config.searcher_max_turns),
        )

    def asked(self, cancelled: Callable[[], bool]) -> Tool:
        """The Searcher as a tool. A session lasts long, and is left when the rollout is called off."""

        async def ask(query: str) -> ToolResult:
            return (await unless_called_off(cancelled, self.searcher.find(query))).result()

        return ask


def searcher_service(config: ThinkerConfig) -> SearcherService:
    """The client of the Searcher services that the config names."""
    sender = PooledSender(concurrency=config.searcher_concurrency, timeout_s=config.searcher_timeout_s)
    client = ServiceClient("searcher", sender, attempts=config.searcher_attempts)
    return SearcherService(Replicas(client, config.searcher_urls), max_turns=config.searcher_max_turns)
