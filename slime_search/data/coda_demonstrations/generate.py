"""Demonstrations by rejection: runs that end with the right answer, for the right reasons, are kept."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from slime_search.core.agent import Agent, Budget
from slime_search.core.engine import Engine
from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import TokenCodec, Tokenizer
from slime_search.core.tool import Tool
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.data.coda_demonstrations.questions import Problem
from slime_search.data.coda_demonstrations.rows import Run, rows_of
from slime_search.data.prompts import planner_prompt
from slime_search.errors import DelegateFailed
from slime_search.recipes.coda.config import CodaConfig, executor_budget
from slime_search.recipes.coda.executors import Executors
from slime_search.recipes.coda.prompts import EXECUTOR_PROMPT, TASK
from slime_search.recipes.coda.recipe import EXECUTOR_TAGS, planner_tags
from slime_search.recipes.coda.reward import refinement_hit
from slime_search.rewards.format import is_well_formed
from slime_search.rewards.text import exact_match

SAMPLING = {"skip_special_tokens": False, "spaces_between_special_tokens": False}


class Demonstrator:
    """Lets a teacher carry out problems in the recipe's own loop, with a real search.

    Args:
        engine_for: the teacher of a problem.
        search: the executors' tool.
        config: the recipe's, with its budgets.
        turn_tokens: tokens a turn.
        concurrency: problems at the same time.
    """

    def __init__(
        self,
        engine_for: Callable[[Problem], Engine],
        search: Tool,
        tokenizer: Tokenizer,
        config: CodaConfig,
        *,
        turn_tokens: int,
        concurrency: int,
        temperature: float = 0.0,
    ) -> None:
        self._engine_for, self._search = engine_for, search
        self._planner_tags = planner_tags(config.tasks_per_turn)
        self._codec = TokenCodec(tokenizer, {*self._planner_tags.tags, *EXECUTOR_TAGS.tags})
        self._executor_prompt = PromptTemplate(self._codec, EXECUTOR_PROMPT, TASK, {})
        self._budget = Budget(
            tool_turns=config.max_turns,
            corrections=0,
            turn_tokens=turn_tokens,
            observation_tokens=config.max_observation_tokens,
            context_tokens=config.max_context_tokens,
        )
        self._executor_budget = executor_budget(config.executor, self._budget)
        self._sampling = {**SAMPLING, "temperature": temperature}
        self._concurrency = concurrency
        self.tally: Counter[str] = Counter()
        """How many runs were ``kept``, or why not."""

    async def demonstrate(self, problems: Iterable[Problem]) -> AsyncIterator[list[dict[str, Any]]]:
        """The rows of each problem, as soon as they are known; none of one whose run is not worth imitating.

        Raises:
            DelegateFailed: the teacher or the retriever failed.
        """
        upcoming = iter(problems)
        running: set[asyncio.Task[list[dict[str, Any]]]] = set()
        try:
            while True:
                while len(running) < self._concurrency and (problem := next(upcoming, None)) is not None:
                    running.add(asyncio.create_task(self._rows(problem)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _rows(self, problem: Problem) -> list[dict[str, Any]]:
        run = await self.run(problem)
        outcome = outcome_of(run, problem)
        self.tally[outcome] += 1
        facts = {"kind": "mathematics" if problem.solution else "search"}
        return list(rows_of(run, facts)) if outcome == "kept" else []

    async def run(self, problem: Problem) -> Run:
        """One problem, carried out by planner and executors."""
        engine = self._engine_for(problem)
        executors = Executors(
            Agent(engine, EXECUTOR_TAGS, {"search": self._search}, self._codec),
            self._executor_prompt,
            self._sampling,
            self._executor_budget,
            session_id=None,
            cancelled=lambda: False,
        )
        messages = [{"role": "user", "content": planner_prompt(problem.text)}]
        planner = Trajectory(self._codec.prompt(messages))
        agent = Agent(engine, self._planner_tags, {"task": executors}, self._codec)
        await agent.run(planner, self._sampling, self._budget)
        if planner.ending is Ending.FAILED:
            raise DelegateFailed(str(planner.failed_service), str(planner.error))
        return Run(problem.text, planner, executors.trajectories, self._planner_tags)


def outcome_of(run: Run, problem: Problem) -> str:
    """``kept``, or the first thing that is wrong with a run."""
    if run.planner.answer is None or any(executor.answer is None for executor in run.executors):
        return "no answer"
    if not exact_match(run.planner.answer, problem.answers):
        return "wrong answer"
    if not is_well_formed(run.planner, run.planner_dialect):
        return "not well-formed"
    if not all(is_well_formed(executor, EXECUTOR_TAGS) for executor in run.executors):
        return "not well-formed"
    if problem.solution:
        return "kept" if not run.executors else "searched for a sum"
    if not all(executor.calls for executor in run.executors) or not run.executors:
        return "did not search"
    gold = [answer for step in problem.steps for answer in step.answers] or problem.answers
    if not any(refinement_hit(executor, gold, EXECUTOR_TAGS) for executor in run.executors):
        return "nothing refined"
    return "kept"
