"""Thinker–Searcher: a small policy learns when to ask and what, a larger frozen agent searches and answers it."""

import logging
from dataclasses import replace

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.tokens import Tokenizer
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.metrics import keep_thinker_seconds, thinker_seconds_of
from slime_search.hooks.runtime import load_tokenizer, model_url
from slime_search.recipes.base import PolicyParts, Rollout, SearchRecipe
from slime_search.recipes.thinker_searcher.client import SearcherService
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.recipes.thinker_searcher.log import ThinkerLog
from slime_search.recipes.thinker_searcher.searcher import Searcher, searcher_of, sglang_engine
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.replicas import Replicas

logger = logging.getLogger(__name__)


class ThinkerSearcher(SearchRecipe["ThinkerParts"]):
    """The hooks of the Thinker. It writes Search-R1's tags; what stands in ``<search>`` is a question to the Searcher.

    Only the Thinker's own tokens are trained on. Of the Searcher it reads the answer and nothing else.
    """

    format = SEARCH_R1_TAGS
    config_class = ThinkerConfig

    async def _run(self, parts: "ThinkerParts", rollout: Rollout) -> None:
        number, trajectory = rollout.sample.index, rollout.trajectory
        search = parts.log.watched(number, parts.searcher, trajectory)
        agent = Agent(parts.engine, SEARCH_R1_TAGS, {"search": search}, parts.codec, role="thinker")
        with parts.log.thinking(number, trajectory):
            await rollout.run(agent, replace(rollout.budget, tool_turns=parts.config.thinker_max_turns))

    def _write_back(self, parts: "ThinkerParts", rollout: Rollout) -> Sample | list[Sample]:
        sample = rollout.sample
        seconds = thinker_seconds_of(sample) + rollout.own_s
        made = super()._write_back(parts, rollout)
        keep_thinker_seconds(sample, seconds)
        return made

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> "ThinkerParts":
        assert isinstance(config, ThinkerConfig)
        return ThinkerParts(args, config, tokenizer)


class ThinkerParts(PolicyParts):
    """With the Searcher: the service, or one in this process."""

    config: ThinkerConfig

    def __init__(self, args: Args, config: ThinkerConfig, tokenizer: Tokenizer) -> None:
        super().__init__(args, config, tokenizer, SEARCH_R1_TAGS.tags)
        self.log = ThinkerLog(max_turns=config.thinker_max_turns, every_turn=config.log_turns)
        if config.searcher_model is None:
            self.searcher: SearcherService | Searcher = searcher_service(config)
            where = ", ".join(config.searcher_urls)
        else:
            url = model_url(args, config.searcher_model, key="searcher_model")
            assert config.searcher_checkpoint is not None
            searchers = load_tokenizer(config.searcher_checkpoint)
            self.searcher = searcher_of(config, sglang_engine(config, url), searchers, self.search)
            where = f"in this process, on slime's model {config.searcher_model!r} at {url}"
        logger.info(
            "Thinker–Searcher\n  Thinker   %s, up to %d questions\n  Searcher  %s, up to %d searches a question",
            *(args.hf_checkpoint, config.thinker_max_turns, where, config.searcher_max_turns),
        )


def searcher_service(config: ThinkerConfig) -> SearcherService:
    """The client of the Searcher services that the config names."""
    sender = PooledSender(concurrency=config.searcher_concurrency, timeout_s=config.searcher_timeout_s)
    client = ServiceClient("searcher", sender, attempts=config.searcher_attempts, patience_s=config.searcher_timeout_s)
    return SearcherService(Replicas(client, config.searcher_urls), max_turns=config.searcher_max_turns)
