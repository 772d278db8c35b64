"""An agent as a tool: each task of a planner is carried out in a context of its own."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from slime_search.core.agent import Agent, Budget
from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tool import ToolResult, check_query
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.errors import DelegateFailed, Interrupted
from slime_search.hooks.facts import EXECUTOR

NO_RESULT = "The task was not solved."
"""What the planner reads when its executor ends without an answer."""


class Executors:
    """The executors of one planner, which keeps their trajectories in the order of their tasks.

    Args:
        agent: runs as each executor.
        prompt: what an executor is asked, with a placeholder for the task.
        session_id: the planner's. An executor has one of its own, so that a router may send it to another engine.
    """

    def __init__(
        self,
        agent: Agent,
        prompt: PromptTemplate,
        sampling_params: Mapping[str, Any],
        budget: Budget,
        *,
        session_id: str | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._agent = agent
        self._prompt = prompt
        self._sampling_params = sampling_params
        self._budget = budget
        self._session_id = session_id
        self._cancelled = cancelled
        self._numbers = itertools.count()
        self.trajectories: list[Trajectory] = []

    async def __call__(self, query: str) -> ToolResult:
        """Carries out one task.

        Raises:
            InvalidQuery: the task is too long.
            DelegateFailed: a service failed the executor, and so its planner.
            Interrupted: the executor was aborted.
        """
        check_query(query)
        number = next(self._numbers)
        trajectory = Trajectory(self._prompt.token_ids(query))
        self.trajectories.append(trajectory)
        session_id = f"{self._session_id}-{number}" if self._session_id else None
        try:
            await self._agent.run(
                trajectory, self._sampling_params, self._budget, session_id=session_id, cancelled=self._cancelled
            )
        except asyncio.CancelledError:
            trajectory.end(Ending.ABORTED)
            raise
        if trajectory.ending is Ending.ABORTED:
            raise Interrupted(f"executor {number} was aborted")
        if trajectory.failed_service is not None:
            raise DelegateFailed(trajectory.failed_service, f"executor {number}: {trajectory.error}")
        text = NO_RESULT if trajectory.answer is None else trajectory.answer
        assert trajectory.ending is not None
        return ToolResult((text,), details={EXECUTOR: number, "ending": trajectory.ending.value})
