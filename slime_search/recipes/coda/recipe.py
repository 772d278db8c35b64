"""CoDA: one model plans and executes, in contexts of their own, and is trained in both roles (arXiv 2512.12716)."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field, field_validator

from slime_search.config import SearchConfig, Section
from slime_search.core.agent import Agent, Budget
from slime_search.core.prompt_template import FilledPrompt
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.tags import TagDialect
from slime_search.errors import ConfigError
from slime_search.hooks.facts import EXECUTOR
from slime_search.hooks.runtime import policy_engine, runtime
from slime_search.hooks.samples import RECORD_KEY, open_trajectory, read_trajectory, role_of, write_back_roles
from slime_search.recipes.base import Parts, SearchRecipe, budget_of
from slime_search.recipes.coda.executors import Executors
from slime_search.recipes.coda.prompts import EXECUTOR_PROMPT, TASK
from slime_search.recipes.coda.reward import REFINE, PecoConfig, peco
from slime_search.rewards.labels import gold_answers

PLANNER = "planner"
EXECUTOR_TAGS = TagDialect(
    tools={"search": "documents"},
    notes=(REFINE,),
    correction_text=(
        "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
        "If I have solved the task, I should put the result between <answer> and </answer>. Let me try again.\n"
    ),
)


def planner_tags(tasks_per_turn: int) -> TagDialect:
    """The planner's dialect; with several tasks a turn, each line of ``<task>`` is one."""
    return TagDialect(
        tools={"task": "result"},
        calls_per_turn=tasks_per_turn,
        correction_text=(
            "\nMy previous action is invalid. If I want to delegate a task, I should put it between <task> and "
            "</task>. If I want to give the final answer, I should put the answer between <answer> and </answer>. "
            "Let me try again.\n"
        ),
    )


class ExecutorConfig(Section):
    """What one executor may do; where a limit is None it is the planner's."""

    prompt: str = EXECUTOR_PROMPT
    """What an executor is asked; ``{task}`` stands for the task. It is rendered as the planner's prompts are."""
    max_turns: int = Field(3, ge=0)
    """Searches a task; a turn to answer always follows the last one."""
    max_corrections: int | None = Field(None, ge=0)
    """Turns without a valid action that are corrected."""
    turn_tokens: int | None = Field(None, ge=1)
    """Tokens sampled in one turn. None for --rollout-max-response-len, as for the planner."""
    max_context_tokens: int | None = Field(None, ge=64)
    """Tokens of its prompt and response together."""

    @field_validator("prompt")
    @classmethod
    def _has_its_place(cls, value: str) -> str:
        if value.count(TASK) != 1:
            raise ValueError(f"write {TASK} in it, once")
        return value


class CodaConfig(SearchConfig):
    """A planner's limits are the keys that every recipe has; ``max_turns`` are its turns with tasks."""

    tasks_per_turn: int = Field(1, ge=1, le=16)
    """Tasks that one turn of the planner may hold. Over 1, each line of ``<task>`` is one, and they run at once."""
    executor: ExecutorConfig = ExecutorConfig()
    peco: PecoConfig = PecoConfig()


class Coda(SearchRecipe["_CodaParts"]):
    """The hooks of CoDA. One rollout becomes several samples: each executor's, and at last the planner's."""

    config_class = CodaConfig

    async def generate(
        self, args: Any, sample: Any, sampling_params: Mapping[str, Any], evaluation: bool = False
    ) -> Any:
        """slime's ``--custom-generate-function-path``: a rollout's samples, all of one ``rollout_id``.

        In evaluation the planner's sample alone, rewarded, so that each question counts once.

        Raises:
            ConfigError: ``--partial-rollout`` is set; a rollout of several samples can't be resumed.
            TooManyFailures: the share of failed rollouts is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be trained on.
        """
        if getattr(args, "partial_rollout", False):
            raise ConfigError("--partial-rollout: slime can't resume a rollout of several samples; leave it out")
        here = runtime(args)
        parts = self._parts(args)
        config = parts.config
        codec = parts.codec(here.tokenizer)
        budget = budget_of(args, config, sampling_params)
        executors = Executors(
            Agent(parts.engine, EXECUTOR_TAGS, {"search": parts.search}, codec, role=EXECUTOR),
            parts.prompt(args, sample, codec),
            sampling_params,
            executor_budget(config.executor, budget),
            session_id=sample.session_id,
            cancelled=here.cancelled,
        )
        planner = open_trajectory(sample, codec.prompt)
        agent = Agent(parts.engine, parts.planner_tags, {"task": executors}, codec, role=PLANNER)
        await agent.run(planner, sampling_params, budget, session_id=sample.session_id, cancelled=here.cancelled)
        parts.failures.observe(planner)
        runs = [*((EXECUTOR, trajectory) for trajectory in executors.trajectories), (PLANNER, planner)]
        siblings = write_back_roles(args, sample, runs, with_log_probs=config.return_logprob)
        if not evaluation:
            return siblings
        if siblings[-1].reward is None:
            siblings[-1].reward = self._reward(args, siblings)
        return siblings[-1]

    def _reward(self, args: Any, rollout: list[Any]) -> float:
        parts = self._parts(args)
        planners = [sample for sample in rollout if role_of(sample) == PLANNER]
        executors = [read_trajectory(sample) for sample in rollout if role_of(sample) == EXECUTOR]
        dialects = (parts.planner_tags, EXECUTOR_TAGS)
        (planner,) = planners
        gold = gold_answers(planner.label)
        result = peco(read_trajectory(planner), executors, gold, dialects, parts.config.peco, parts.config)
        for sample in rollout:
            sample.metadata[RECORD_KEY]["score"] = asdict(result)
        return result.reward

    def _build(self, args: Any, config: SearchConfig) -> "_CodaParts":
        assert isinstance(config, CodaConfig)
        return _CodaParts(args, config)


def executor_budget(executor: ExecutorConfig, planner: Budget) -> Budget:
    """An executor's limits, the planner's where it has none of its own."""
    return Budget(
        tool_turns=executor.max_turns,
        corrections=planner.corrections if executor.max_corrections is None else executor.max_corrections,
        turn_tokens=executor.turn_tokens or planner.turn_tokens,
        observation_tokens=planner.observation_tokens,
        context_tokens=executor.max_context_tokens or planner.context_tokens,
    )


class _CodaParts(Parts):
    config: CodaConfig

    def __init__(self, args: Any, config: CodaConfig) -> None:
        super().__init__(args, config)
        self.engine = policy_engine(args, config)
        self.planner_tags = planner_tags(config.tasks_per_turn)
        self._codec: TokenCodec | None = None

    def codec(self, tokenizer: Any) -> TokenCodec:
        if self._codec is None or self._codec.tokenizer is not tokenizer:
            self._codec = TokenCodec(tokenizer, {*self.planner_tags.tags, *EXECUTOR_TAGS.tags})
        return self._codec

    def prompt(self, args: Any, sample: Any, codec: TokenCodec) -> FilledPrompt:
        """Rendered like the sample's own: through the chat template where that was, and as plain text else."""
        as_chat = getattr(args, "apply_chat_template", False) or not isinstance(sample.prompt, str)
        kwargs = getattr(args, "apply_chat_template_kwargs", None) or {}
        return FilledPrompt(codec, self.config.executor.prompt, TASK, kwargs if as_chat else None)
