"""What every recipe has: one config dict, the parts built from it, and the reward hook."""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

from slime_search.config import RETRIEVER_TOKEN, SearchConfig, load_config
from slime_search.core.agent import Budget
from slime_search.core.dialect import Format
from slime_search.core.tool import Tool
from slime_search.hooks.failures import FailureMonitor
from slime_search.hooks.runtime import policy_url
from slime_search.hooks.samples import RECORD_KEY, read_whole, rollouts_of
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.search import score
from slime_search.tools.retriever import Retriever
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.replicas import Replicas


class Parts:
    """What all trajectories of a run share. ``toolbox`` is the recipe's, made once."""

    toolbox: Mapping[str, Tool]

    def __init__(self, args: Any, config: SearchConfig) -> None:
        self.config = config
        self.search = search_tool(config)
        self.rollout_size = getattr(args, "rollout_batch_size", 64) * getattr(args, "n_samples_per_prompt", 1)
        self.failures = FailureMonitor(window=self.rollout_size, max_share=config.max_failure_share)


P = TypeVar("P", bound=Parts)


class SearchRecipe(ABC, Generic[P]):
    """The two hooks that slime calls, built from one config dict.

    The dict is validated here, and again whenever it or slime's overlay changes, so it may be edited between runs of
    one process. A recipe says how a trajectory is generated, and what its turns mean.
    """

    format: Format
    config_class: type[SearchConfig] = SearchConfig
    """The recipe's configuration; one with keys of its own names a subclass."""

    def __init__(self, configs: Mapping[str, Any]) -> None:
        self._configs = configs
        self.config()
        self._built: tuple[Any, P] | None = None

    def toolbox(self, search: Tool, config: SearchConfig) -> Mapping[str, Tool]:
        """What the agent can call, by the dialect's tags or functions; ``search`` is the backend that the config names.

        A recipe of one agent overrides it to add tools. All trajectories share them, so a tool keeps nothing of one.
        """
        return {"search": search}

    @abstractmethod
    async def generate(self, args: Any, sample: Any, sampling_params: Mapping[str, Any]) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one trajectory.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be trained on.
        """

    @abstractmethod
    def _build(self, args: Any, config: SearchConfig) -> P: ...

    def config(self, overlay: Mapping[str, Any] | None = None) -> SearchConfig:
        """The recipe's dict, overlaid with ``overlay`` and the environment. Raises ConfigError."""
        return load_config(self._configs, overlay, self.config_class)

    async def reward_func(self, args: Any, sample: Any, **kwargs: Any) -> float | list[float]:
        """slime's ``--custom-rm-path``: one reward, or a list of them for a list of samples.

        Samples of one rollout share its reward. Leaves the parts of the score in the samples' records, for metrics.

        Raises:
            DataError: the label holds no gold answer, or another generate function wrote the sample.
        """
        if not isinstance(sample, list):
            return self._reward(args, [sample])
        rewards: dict[int, float] = {}
        for rollout in rollouts_of(sample):
            rewards |= dict.fromkeys(map(id, rollout), self._reward(args, rollout))
        return [rewards[id(one)] for one in sample]

    def _reward(self, args: Any, rollout: list[Any]) -> float:
        trajectory = read_whole(rollout)
        turns = self._format_of(rollout)
        result = score(trajectory, gold_answers(rollout[0].label), turns, self._parts(args).config)
        for sample in rollout:
            sample.metadata[RECORD_KEY]["score"] = asdict(result)
        return result.reward

    def _format_of(self, rollout: list[Any]) -> Format:
        """What the turns of these samples mean."""
        return self.format

    def _parts(self, args: Any) -> P:
        overlay = getattr(args, "slime_search", None)
        key = (self._configs, overlay, policy_url(args))
        if self._built is None or self._built[0] != key:
            config = self.config(overlay)
            parts = self._build(args, config)
            parts.toolbox = self.toolbox(parts.search, config)
            self._built = copy.deepcopy(key), parts
        return self._built[1]


def recipe_in(hooks: object) -> SearchRecipe[Any] | None:
    """The recipe behind a run's two hooks: itself, or one that their module holds or takes a hook from, if any."""
    if isinstance(hooks, SearchRecipe):
        return hooks
    held = (one for value in vars(hooks).values() for one in (value, getattr(value, "__self__", None)))
    return next((one for one in held if isinstance(one, SearchRecipe)), None)


def search_tool(config: SearchConfig) -> Tool:
    """The search backend that the config names.

    Raises:
        ConfigError: Google is chosen without its key, packages or cache.
    """
    if config.search_backend == "google":
        from slime_search.tools.from_config import google_search

        return google_search(config)
    local = config.local
    sender = PooledSender(concurrency=config.search_concurrency, timeout_s=config.search_timeout_s, proxy=local.proxy)
    client = ServiceClient("retriever", sender, attempts=config.search_attempts)
    token = os.environ.get(RETRIEVER_TOKEN)
    return Retriever(Replicas(client, local.search_urls), topk=config.topk, token=token)


def budget_of(args: Any, config: SearchConfig, sampling_params: Mapping[str, Any]) -> Budget:
    context = config.max_context_tokens or getattr(args, "rollout_max_context_len", None)
    return Budget(
        tool_turns=config.max_turns,
        corrections=config.max_corrections,
        turn_tokens=sampling_params["max_new_tokens"],
        observation_tokens=config.max_observation_tokens,
        context_tokens=context,
    )
