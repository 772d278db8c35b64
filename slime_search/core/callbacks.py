"""Callbacks of the agent loop: whoever sets one hears of each turn and each call of every agent, with nothing wired."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from slime_search.core.dialect import ToolCall
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Segment, Trajectory


class Callback(Protocol):
    """Called on the agents' event loop, so each method returns soon. What it raises ends the rollout.

    A trajectory is known by its identity: several agents may be at work in one rollout, and at the same time.
    """

    def on_start(self, role: str, trajectory: Trajectory) -> None:
        """An agent takes up ``trajectory``. Agents that run side by side as tools start in the order of the calls."""

    def on_turn(self, trajectory: Trajectory, segment: Segment) -> None:
        """The model's turn was appended, or the part of it that an abort left."""

    def on_call(self, trajectory: Trajectory, call: ToolCall, result: ToolResult, latency_s: float) -> None:
        """A call returned; others of the same turn may still be under way."""

    def on_observation(self, trajectory: Trajectory, segment: Segment) -> None:
        """The results of a turn's calls were appended, or a correction."""

    def on_end(self, trajectory: Trajectory) -> None:
        """The trajectory has an ending. It is not called for an agent whose task is cancelled."""


CALLBACK: ContextVar[Callback | None] = ContextVar("callback", default=None)
"""Inherited by every task that is started while it is set."""


@contextmanager
def use_callback(callback: Callback) -> Iterator[None]:
    """Calls ``callback`` for all agents that run in this block, or in tasks that it starts."""
    token = CALLBACK.set(callback)
    try:
        yield
    finally:
        CALLBACK.reset(token)
