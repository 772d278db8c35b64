"""The one loop behind every recipe: generate a turn, act on it, append what came back."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.core.callbacks import OBSERVER
from slime_search.core.dialect import Answer, CallTools, Dialect, Invalid, ToolCall
from slime_search.core.drift import go_on_from, reconcile
from slime_search.core.engine import Engine, Finish
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Tool, ToolResult
from slime_search.core.trajectory import Ending, Segment, Trajectory
from slime_search.errors import Interrupted, ServiceError

ANSWER_ROOM = 32
"""Tokens of context that an observation leaves free, so that the model can still answer after it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one trajectory; None is no limit.

    ``tool_turns`` counts turns that call tools; a turn to answer always follows the last of them. ``turn_tokens`` are
    sampled in one turn, ``observation_tokens`` appended after it, ``context_tokens`` are prompt and response together.
    """

    tool_turns: int
    corrections: int
    turn_tokens: int
    observation_tokens: int | None = None
    context_tokens: int | None = None


@dataclass(frozen=True)
class Agent:
    """Engine, dialect and tools, wired into a loop. ``role`` is what an observer calls it.

    ``context`` says what a turn is conditioned on where that is not all that was said before; the turn then begins a
    context of its own.
    """

    engine: Engine
    dialect: Dialect
    tools: Mapping[str, Tool]
    codec: TokenCodec
    role: str = "agent"
    context: Callable[[Trajectory], Sequence[int]] | None = None

    async def run(
        self,
        trajectory: Trajectory,
        sampling_params: Mapping[str, Any],
        budget: Budget,
        *,
        session_id: str | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Carries ``trajectory`` on from wherever it stands until it has an ending.

        A service that fails ends it as FAILED instead of raising; ``cancelled`` is asked before each engine request.
        """
        stop = tuple(dict.fromkeys((*_as_list(sampling_params.get("stop")), *self.dialect.stop)))
        sampling_params = {**sampling_params, "stop": list(stop), "no_stop_trim": True}
        observer = OBSERVER.get()
        if observer is not None:
            observer.began(self.role, trajectory)
        try:
            while trajectory.ending is None:
                if not trajectory.awaits_model:
                    await self._act(trajectory, budget)
                elif cancelled():
                    trajectory.end(Ending.ABORTED)
                else:
                    await self._speak(trajectory, sampling_params, budget, session_id)
        except ServiceError as error:
            trajectory.fail(error)
        except Interrupted:
            trajectory.end(Ending.ABORTED)
        if observer is not None:
            observer.ended(trajectory)

    async def _speak(
        self, trajectory: Trajectory, sampling_params: Mapping[str, Any], budget: Budget, session_id: str | None
    ) -> None:
        if self.context is not None and not trajectory.open_turn:
            go_on_from(trajectory, self.context(trajectory))
        room = budget.turn_tokens - sum(len(s.token_ids) for s in trajectory.open_turn)
        if budget.context_tokens is not None:
            room = min(room, budget.context_tokens - len(trajectory))
        if room <= 0:
            trajectory.end(Ending.TRUNCATED)
            return
        completion = await self.engine.generate(
            trajectory.token_ids, {**sampling_params, "max_new_tokens": room}, session_id=session_id
        )
        if completion.prompt_ids is not None:
            reconcile(trajectory, completion.prompt_ids)
        # A turn that was interrupted goes on; the template wrote nothing there.
        opened = "" if trajectory.open_turn else self.codec.opened_thought(trajectory.token_ids)
        trajectory.add_completion(completion, opened=opened)
        _tell_of_last(trajectory)
        if completion.finish is Finish.ABORT:
            trajectory.end(Ending.ABORTED)

    async def _act(self, trajectory: Trajectory, budget: Budget) -> None:
        turn = trajectory.open_turn
        action = self.dialect.parse("".join(segment.said for segment in turn))
        cut_short = turn[-1].finish is Finish.LENGTH
        match action:
            # An engine that is out of tokens says so even when the last one completes the action. Without stop strings
            # only the end token can, and it is not there.
            case _ if cut_short and (isinstance(action, Invalid) or not self.dialect.stop):
                trajectory.end(Ending.TRUNCATED)
            case Answer(text):
                trajectory.end(Ending.ANSWERED, answer=text)
            case Invalid():
                self._correct(trajectory, action, budget)
            case CallTools():
                if trajectory.tool_turns >= budget.tool_turns:
                    trajectory.end(Ending.OUT_OF_TURNS)
                else:
                    await self._observe(trajectory, action, budget)

    def _correct(self, trajectory: Trajectory, invalid: Invalid, budget: Budget) -> None:
        correction = self.dialect.correction(self.codec, invalid, turn_ids=_ids_of(trajectory.open_turn))
        if trajectory.corrections >= budget.corrections:
            trajectory.end(Ending.OUT_OF_TURNS)
        elif budget.context_tokens is not None and (
            len(trajectory) + len(correction.token_ids) + ANSWER_ROOM > budget.context_tokens
        ):
            trajectory.end(Ending.TRUNCATED)
        else:
            trajectory.add_observation(correction, is_correction=True)
            _tell_of_last(trajectory)

    async def _observe(self, trajectory: Trajectory, action: CallTools, budget: Budget) -> None:
        timed = await self._call_all(trajectory, action.calls)
        results = [result for result, _ in timed]
        room = budget.observation_tokens
        if budget.context_tokens is not None:
            left = budget.context_tokens - len(trajectory) - ANSWER_ROOM
            room = left if room is None else min(room, left)
        turn_ids = _ids_of(trajectory.open_turn)
        observation = self.dialect.observation(self.codec, action, results, room, turn_ids=turn_ids)
        trajectory.add_calls(action.calls, results, [latency_s for _, latency_s in timed])
        if observation is None:
            trajectory.end(Ending.TRUNCATED)
        else:
            trajectory.add_observation(observation)
            _tell_of_last(trajectory)

    async def _call_all(self, trajectory: Trajectory, calls: Sequence[ToolCall]) -> list[tuple[ToolResult, float]]:
        """At the same time; when one fails, the others are stopped."""
        if len(calls) == 1:
            return [await self._call(trajectory, calls[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(trajectory, call)) for call in calls]
        except* (ServiceError, Interrupted) as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _call(self, trajectory: Trajectory, call: ToolCall) -> tuple[ToolResult, float]:
        if call.error is not None:
            return ToolResult((call.error,)), 0.0
        start = time.perf_counter()
        result = await self.tools[call.tool](call.query)
        latency_s = time.perf_counter() - start
        if (observer := OBSERVER.get()) is not None:
            observer.called(trajectory, call, result, latency_s)
        return result, latency_s


def _tell_of_last(trajectory: Trajectory) -> None:
    if (observer := OBSERVER.get()) is not None:
        observer.added(trajectory, trajectory.segments[-1])


def _ids_of(turn: Sequence[Segment]) -> list[int]:
    return [i for segment in turn for i in segment.token_ids]


def _as_list(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop or ())
