"""What every recipe has: one config dict, the parts built from it, and the two hooks that slime calls."""

import asyncio
import copy
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from slime_search.config import SearchConfig, load_config
from slime_search.core.agent import Agent, Budget
from slime_search.core.dialect import Format
from slime_search.core.failures import FailureMonitor
from slime_search.core.tokens import TokenCodec, Tokenizer
from slime_search.core.tool import Tool
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.errors import DataError
from slime_search.hooks.contract import Args, Messages, Reward, Sample, option, reward_in_slimes_form
from slime_search.hooks.runtime import Runtime, policy_engine, policy_url, runtime
from slime_search.hooks.samples import (
    RECORD_KEY,
    answering,
    fail_rollout,
    open_trajectory,
    read_whole,
    rollouts_of,
    whole_rollout,
    write_back,
)
from slime_search.hooks.slime_options import check_options
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.search import Score, score
from slime_search.tools.from_config import search_tool

__all__ = ["Parts", "PolicyParts", "Rollout", "SearchRecipe", "budget_of", "recipe_in", "search_tool"]

LABEL = "label"
"""What failures are booked to whose sample has no gold answer."""


class Parts:
    """What all trajectories of a run share. ``toolbox`` is the recipe's, made once.

    Args:
        tokenizer: the policy's.
        tags: the dialect's markup, which no tool text may forge.
    """

    toolbox: Mapping[str, Tool]

    def __init__(self, args: Args, config: SearchConfig, tokenizer: Tokenizer, tags: Iterable[str]) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.codec = TokenCodec(tokenizer, tags)
        self.search = search_tool(config)
        self.rollout_size = _rollout_size(args)
        self.failures = FailureMonitor(window=self.rollout_size, max_share=config.max_failure_share)


class PolicyParts(Parts):
    """With the policy's engine, for recipes that send token ids to ``/generate``."""

    def __init__(self, args: Args, config: SearchConfig, tokenizer: Tokenizer, tags: Iterable[str]) -> None:
        super().__init__(args, config, tokenizer, tags)
        self.engine = policy_engine(args, config)


@dataclass(slots=True)
class Rollout:
    """One rollout under way: what slime called ``generate`` with, and the trajectory of the agent that answers."""

    args: Args
    sample: Sample
    sampling_params: dict[str, Any]
    """This rollout's own."""
    budget: Budget
    trajectory: Trajectory
    known_segments: int
    """Segments that ``sample`` holds already, of an earlier rollout that was interrupted."""
    cancelled: Callable[[], bool] | None
    delegates: list[tuple[str, Trajectory]] = field(default_factory=list)
    """Role and trajectory of each agent that the answering one called."""
    own_s: float = 0.0
    """Seconds that the answering agent was at work, without those that it waited for its calls."""

    async def run(self, agent: Agent, budget: Budget | None = None) -> None:
        """Has ``agent`` carry the trajectory on, within ``budget`` or else the rollout's own."""
        known_calls = len(self.trajectory.calls)
        start = time.perf_counter()
        await agent.run(
            self.trajectory,
            self.sampling_params,
            budget or self.budget,
            session_id=self.sample.session_id,
            cancelled=self.cancelled,
        )
        self.own_s = time.perf_counter() - start - sum(call.latency_s for call in self.trajectory.calls[known_calls:])


P = TypeVar("P", bound=Parts)


class SearchRecipe(ABC, Generic[P]):
    """The two hooks that slime calls, built from one config dict.

    The dict is validated here, and again whenever it or slime's overlay changes, so it may be edited between runs of
    one process. A recipe says which parts it has, how its agents run, and what their turns mean.
    """

    format: Format
    config_class: type[SearchConfig] = SearchConfig
    """The recipe's configuration; one with keys of its own names a subclass."""

    def __init__(self, configs: Mapping[str, Any]) -> None:
        self._configs = configs
        self.config()
        self._built: tuple[Any, P] | None = None
        self._labels: FailureMonitor | None = None

    def toolbox(self, search: Tool, config: SearchConfig) -> Mapping[str, Tool]:
        """What the agent can call, by the dialect's tags or functions; ``search`` is the backend that the config names.

        A recipe of one agent overrides it to add tools. All trajectories share them, so a tool keeps nothing of one.
        """
        return {"search": search}

    async def generate(
        self, args: Args, sample: Sample, sampling_params: Mapping[str, Any], evaluation: bool = False
    ) -> Sample | list[Sample]:
        """slime's ``--custom-generate-function-path``: runs or resumes one rollout.

        1. Open the trajectory: a new one, or that of an interrupted sample.
        2. Run the agents until it has an ending.
        3. Write it back into ``sample``, or into several samples of one rollout.
        4. Count it among those that a service failed, or did not.

        Returns:
            ``sample``, or a list where the recipe makes several of it; in an evaluation, which counts samples, the one
            that answers. slime's reward function then scores it.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be trained on.
            ConfigError: slime's arguments and the recipe's settings don't go together; it names them.
            DataError: the prompt is not one that the recipe can be asked with.
        """
        here = runtime(args)
        parts = self._parts(args, here)
        rollout = self._open(parts, args, sample, sampling_params, here)
        try:
            await self._run(parts, rollout)
        except asyncio.CancelledError:
            # Newer versions of slime cancel tasks, and then take the sample as it is.
            if here.cancelled is not None and here.cancelled():
                rollout.trajectory.end(Ending.ABORTED)
                self._write_back(parts, rollout)
            raise
        made = self._write_back(parts, rollout)
        parts.failures.observe(rollout.trajectory)
        return answering(made) if evaluation and isinstance(made, list) else made

    def _open(self, parts: P, args: Args, sample: Sample, sampling_params: Mapping[str, Any], here: Runtime) -> Rollout:
        trajectory = open_trajectory(sample, partial(self._prompt_ids, parts))
        budget = budget_of(args, parts.config, sampling_params)
        known = len(trajectory.segments)
        # All samples of an evaluation of slime's share their parameters; a recipe may change those of its rollout.
        own = copy.deepcopy(dict(sampling_params))
        return Rollout(args, sample, own, budget, trajectory, known, here.cancelled)

    def _prompt_ids(self, parts: P, prompt: str | Messages) -> list[int]:
        """The token ids that a trajectory begins with."""
        return parts.codec.prompt(prompt)

    @abstractmethod
    async def _run(self, parts: P, rollout: Rollout) -> None:
        """Runs the recipe's agents until the rollout's trajectory has an ending."""

    def _write_back(self, parts: P, rollout: Rollout) -> Sample | list[Sample]:
        """Puts the trajectory into the rollout's sample, or makes several samples of it."""
        with_log_probs = parts.config.return_logprob
        known = rollout.known_segments
        write_back(
            rollout.args, rollout.sample, rollout.trajectory, known_segments=known, with_log_probs=with_log_probs
        )
        return rollout.sample

    def several_samples(self, config: SearchConfig) -> str:
        """Why a rollout becomes several samples, as a sentence; "" where it stays one."""
        return ""

    @abstractmethod
    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> P: ...

    def config(self, overlay: Mapping[str, Any] | None = None) -> SearchConfig:
        """The recipe's dict, overlaid with ``overlay`` and the environment. Raises ConfigError."""
        return load_config(self._configs, overlay, self.config_class)

    async def reward_func(self, args: Args, sample: Sample | list[Sample], **kwargs: Any) -> Reward | list[Reward]:
        """slime's ``--custom-rm-path``: one reward, or a list of them for a list of samples.

        Samples of one rollout share its reward. Leaves the parts of the score in the samples' records, for metrics. A
        rollout whose label holds no gold answer is taken out of training like one that a service failed, and its sample
        is named in the log.

        Returns:
            A float for each sample, or under ``--reward-key`` or ``--eval-reward-key`` a dict that holds it.

        Raises:
            DataError: another generate function wrote the sample.
            TooManyFailures: more than ``max_failure_share`` of the labels hold no answer.
        """
        if not isinstance(sample, list):
            return self._rewarded(args, whole_rollout(sample))
        rewards: dict[int, Reward] = {}
        for rollout in rollouts_of(sample):
            rewards |= dict.fromkeys(map(id, rollout), self._rewarded(args, rollout))
        return [rewards[id(part)] for part in sample]

    def _rewarded(self, args: Args, rollout: list[Sample]) -> Reward:
        config = self._config_of(args)
        if self._labels is None:
            self._labels = FailureMonitor(window=_rollout_size(args), max_share=config.max_failure_share)
        try:
            gold = gold_answers(rollout[-1].label)
        except DataError as error:
            message = f"{_named(rollout[-1])}: {error}"
            fail_rollout(args, rollout, LABEL, message)
            self._labels.count(LABEL, message)
            return reward_in_slimes_form(args, 0.0, "removed")
        self._labels.count(None, None)
        result = self._score(config, rollout, gold)
        for part in rollout:
            part.metadata[RECORD_KEY]["score"] = asdict(result)
        return reward_in_slimes_form(args, result.reward, str(rollout[-1].metadata[RECORD_KEY]["ending"]))

    def _score(self, config: SearchConfig, rollout: list[Sample], gold: list[str]) -> Score:
        """The score of one rollout's samples, in the order in which they were written."""
        return score(read_whole(rollout), gold, self._format_of(rollout), config)

    def _format_of(self, rollout: list[Sample]) -> Format:
        """What the turns of these samples mean."""
        return self.format

    def _config_of(self, args: Args) -> SearchConfig:
        """The configuration of this run; that of the parts where they are built, which reading it again would equal."""
        overlay = option(args, "slime_search")
        if self._built is not None and self._built[0][:2] == (self._configs, overlay):
            return self._built[1].config
        return self.config(overlay)

    def _parts(self, args: Args, here: Runtime) -> P:
        overlay = option(args, "slime_search")
        key = (self._configs, overlay, policy_url(args))
        if self._built is None or self._built[0] != key or self._built[1].tokenizer is not here.tokenizer:
            config = self.config(overlay)
            check_options(args, config, several=self.several_samples(config))
            parts = self._build(args, config, here.tokenizer)
            parts.toolbox = self.toolbox(parts.search, config)
            self._built = copy.deepcopy(key), parts
        return self._built[1]


def recipe_in(hooks: object) -> SearchRecipe[Any] | None:
    """The recipe behind a run's two hooks, if any.

    That is ``hooks`` itself, the recipe whose method ``hooks.generate`` is, the one that the function
    ``hooks.generate`` names, or else any that ``hooks`` holds. A module may hold recipes of other modules beside its
    own.
    """
    generate = getattr(hooks, "generate", None)
    named = inspect.getclosurevars(generate) if inspect.isfunction(generate) else None
    held = vars(hooks).values()
    for value in (hooks, generate, *(named.globals.values() if named else ()), *held):
        for candidate in (value, getattr(value, "__self__", None)):
            if isinstance(candidate, SearchRecipe):
                return candidate
    return None


def budget_of(args: Args, config: SearchConfig, sampling_params: Mapping[str, Any]) -> Budget:
    """The limits of one trajectory, from the recipe's config, slime's arguments and a turn's sampling parameters."""
    context = config.max_context_tokens or option(args, "rollout_max_context_len")
    return Budget(
        tool_turns=config.max_turns,
        corrections=config.max_corrections,
        turn_tokens=sampling_params["max_new_tokens"],
        observation_tokens=config.max_observation_tokens,
        context_tokens=context,
    )


def _rollout_size(args: Args) -> int:
    """Trajectories of one of slime's rollouts."""
    return int(option(args, "rollout_batch_size", 64)) * int(option(args, "n_samples_per_prompt", 1))


def _named(sample: Sample) -> str:
    """A sample so that its row can be found: its index, what its metadata says of the row, and how it is asked."""
    metadata = sample.metadata or {}
    row = "".join(f", {name} {metadata[name]}" for name in ("id", "index", "row", "data_source") if name in metadata)
    prompt = sample.prompt if isinstance(sample.prompt, str) else str(sample.prompt[-1].get("content"))
    return f"sample {sample.index}{row}, which asks {metadata.get('question') or prompt.strip()[-200:]!r}"
