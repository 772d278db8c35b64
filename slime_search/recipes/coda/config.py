"""The configuration of planner and executors."""

from pydantic import Field, field_validator

from slime_search.config import SearchConfig, Section
from slime_search.core.agent import Budget
from slime_search.recipes.coda.prompts import EXECUTOR_PROMPT, TASK


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
    def _has_its_placeholder(cls, value: str) -> str:
        if value.count(TASK) != 1:
            raise ValueError(f"write {TASK} in it, once")
        return value


class PecoConfig(Section):
    """The weights of PECO's parts. A perfect rollout earns 1.3; the paper's code has 6, -3, 1 and 0.5 instead."""

    correctness_weight: float = Field(1.0, ge=0)
    """What a right answer earns; the metric, EM or F1, is the section ``reward``'s."""
    correctness_offset: float = 0.0
    """Added to it."""
    format_weight: float = Field(0.1, ge=0)
    """What a well-formed planner earns, and once more what well-formed executors earn on average."""
    refinement_weight: float = Field(0.1, ge=0)
    """What it earns that some executor's refinement holds a gold answer."""


class CodaConfig(SearchConfig):
    """A planner's limits are the keys that every recipe has; ``max_turns`` are its turns with tasks."""

    tasks_per_turn: int = Field(1, ge=1, le=16)
    """Tasks that one turn of the planner may hold. Over 1, each line of ``<task>`` is one, and they run at once."""
    executor: ExecutorConfig = ExecutorConfig()
    peco: PecoConfig = PecoConfig()


def executor_budget(executor: ExecutorConfig, planner: Budget) -> Budget:
    """An executor's limits, the planner's where it has none of its own."""
    return Budget(
        tool_turns=executor.max_turns,
        corrections=planner.corrections if executor.max_corrections is None else executor.max_corrections,
        turn_tokens=executor.turn_tokens or planner.turn_tokens,
        observation_tokens=planner.observation_tokens,
        context_tokens=executor.max_context_tokens or planner.context_tokens,
    )
