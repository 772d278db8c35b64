"""CoDA: one model plans and executes, in contexts of their own, and is trained in both roles (arXiv 2512.12716)."""

from functools import cache

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import Tokenizer
from slime_search.dialects.tags import TagDialect
from slime_search.hooks.contract import Args, Sample, option
from slime_search.hooks.facts import EXECUTOR
from slime_search.hooks.samples import read_trajectory, role_of, write_back_roles
from slime_search.recipes.base import PolicyParts, Rollout, SearchRecipe
from slime_search.recipes.coda.config import CodaConfig, executor_budget
from slime_search.recipes.coda.executors import Executors
from slime_search.recipes.coda.prompts import TASK
from slime_search.recipes.coda.reward import REFINE, PecoScore, peco

PLANNER = "planner"
EXECUTOR_TAGS = TagDialect(
    tools={"search": "documents"},
    notes=(REFINE,),
    correction_text=(
        "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
        "If I have solved the task, I should put the result between <answer> and </answer>. Let me try again.\n"
    ),
)


@cache
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


class Coda(SearchRecipe["CodaParts"]):
    """The hooks of CoDA. One rollout becomes several samples: each executor's, and at last the planner's."""

    config_class = CodaConfig

    async def _run(self, parts: "CodaParts", rollout: Rollout) -> None:
        executors = parts.executors(rollout)
        tools = {"task": executors}
        await rollout.run(Agent(parts.engine, parts.planner_tags, tools, parts.codec, role=PLANNER))
        rollout.delegates.extend((EXECUTOR, trajectory) for trajectory in executors.trajectories)

    def _write_back(self, parts: "CodaParts", rollout: Rollout) -> list[Sample]:
        """A sample for each executor, and at last the planner's, all of one ``rollout_id``."""
        runs = [*rollout.delegates, (PLANNER, rollout.trajectory)]
        return write_back_roles(rollout.args, rollout.sample, runs, with_log_probs=parts.config.return_logprob)

    def _score(self, config: SearchConfig, rollout: list[Sample], gold: list[str]) -> PecoScore:
        assert isinstance(config, CodaConfig)
        (planner,) = (read_trajectory(sample) for sample in rollout if role_of(sample) == PLANNER)
        executors = [read_trajectory(sample) for sample in rollout if role_of(sample) == EXECUTOR]
        dialects = (planner_tags(config.tasks_per_turn), EXECUTOR_TAGS)
        return peco(planner, executors, gold, dialects, config.peco, config)

    def several_samples(self, config: SearchConfig) -> str:
        return "CoDA makes one of each executor and one of the planner"

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> "CodaParts":
        assert isinstance(config, CodaConfig)
        return CodaParts(args, config, tokenizer)


class CodaParts(PolicyParts):
    """With the planner's dialect and what makes its executors."""

    config: CodaConfig

    def __init__(self, args: Args, config: CodaConfig, tokenizer: Tokenizer) -> None:
        self.planner_tags = planner_tags(config.tasks_per_turn)
        super().__init__(args, config, tokenizer, {*self.planner_tags.tags, *EXECUTOR_TAGS.tags})

    def executors(self, rollout: Rollout) -> Executors:
        """The executors of one planner, asked as it was: through the chat template, or as plain text."""
        args, sample = rollout.args, rollout.sample
        as_chat = option(args, "apply_chat_template") or not isinstance(sample.prompt, str)
        kwargs = option(args, "apply_chat_template_kwargs") or {}
        return Executors(
            Agent(self.engine, EXECUTOR_TAGS, {"search": self.search}, self.codec, role=EXECUTOR),
            PromptTemplate(self.codec, self.config.executor.prompt, TASK, kwargs if as_chat else None),
            rollout.sampling_params,
            executor_budget(self.config.executor, rollout.budget),
            session_id=sample.session_id,
            cancelled=rollout.cancelled,
        )
