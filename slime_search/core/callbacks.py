"""Watching agents at work: whoever asks is told of each turn and each call of every agent, with nothing wired."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from slime_search.core.dialect import ToolCall
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Segment, Trajectory


class Observer(Protocol):
    """Is told on the agents' event loop, so it returns soon. What it raises ends the rollout.

    A trajectory is known by its identity: several agents may be at work in one rollout, and at the same time.
    """

    def began(self, role: str, trajectory: Trajectory) -> None:
        """An agent takes up ``trajectory``. Agents that were called on side by side begin in the order of the calls."""

    def added(self, trajectory: Trajectory, segment: Segment) -> None:
        """The model's turn, an observation or a correction was appended."""

    def called(self, trajectory: Trajectory, call: ToolCall, result: ToolResult, latency_s: float) -> None:
        """A call returned; others of the same turn may still be on their way."""

    def ended(self, trajectory: Trajectory) -> None:
        """It has an ending. An agent that is cancelled, as another one's call failed, is not told of."""


OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)
"""Inherited by every task that is started while it is set."""


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Has ``observer`` told of all agents that run in this block, or in tasks that it starts."""
    token = OBSERVER.set(observer)
    try:
        yield
    finally:
        OBSERVER.reset(token)
