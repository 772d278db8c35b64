"""The one loop behind every recipe: generate a turn, act on it, append what came back."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from slime_search.core.callbacks import CALLBACK
from slime_search.core.cancellation import unless_cancelled
from slime_search.core.decoding import text_that_follows
from slime_search.core.dialect import Answer, CallTools, Dialect, Invalid, Observation, ToolCall
from slime_search.core.drift import go_on_from, reconcile
from slime_search.core.engine import Completion, ContextLimits, Engine, Finish
from slime_search.core.tokens import LONGEST_OPENING, TokenCodec
from slime_search.core.tool import Tool, ToolResult
from slime_search.core.trajectory import Ending, Segment, Trajectory
from slime_search.errors import Interrupted, InvalidQuery, ServiceError

ANSWER_ROOM = 32
"""Tokens of context that an observation leaves free, so that the model can still answer after it."""
ABORT_GRACE_S = 60.0
"""Seconds that a cancelled engine request has to return what it sampled. The trainer aborts the engine's requests, so
most return at once; one whose engine hangs is left after this time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one trajectory; None is no limit.

    ``tool_turns`` counts turns that call tools; a turn to answer always follows the last of them. ``turn_tokens`` are
    sampled in one turn, ``observation_tokens`` appended after it, ``context_tokens`` are prompt and response together.
    ``prompt_tokens`` are those that a turn may begin after.
    """

    tool_turns: int
    corrections: int
    turn_tokens: int
    observation_tokens: int | None = None
    context_tokens: int | None = None
    prompt_tokens: int | None = None

    def within(self, limits: ContextLimits | None) -> "Budget":
        """This budget on a server that takes no more than ``limits``."""
        if limits is None:
            return self
        context = min(self.context_tokens or limits.total_tokens, limits.total_tokens)
        return replace(self, context_tokens=context, prompt_tokens=limits.prompt_tokens)

    def room(self, context: int, turn: int) -> int:
        """Tokens that may be sampled now: ``context`` are held, the last ``turn`` of them in the turn that goes on."""
        room = self.turn_tokens - turn
        if self.context_tokens is not None:
            room = min(room, self.context_tokens - context)
        return 0 if self.prompt_tokens is not None and context > self.prompt_tokens else room


@dataclass(frozen=True)
class Agent:
    """Engine, dialect and tools, wired into a loop. ``role`` is its name in callbacks.

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
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Carries ``trajectory`` on from wherever it stands until it has an ending.

        A service that fails ends it as FAILED instead of raising. ``cancelled`` is asked before each engine request
        and a few times a second while a tool or the engine is at work. Once it is true, tools are stopped, an engine
        request may return what it sampled so far, and the trajectory ends as ABORTED. Resumed, it repeats the calls
        that were stopped. Where the engine's context is shorter than the budget's, it is the limit, and a trajectory
        that fills it ends as TRUNCATED.
        """
        stop = tuple(dict.fromkeys((*_as_list(sampling_params.get("stop")), *self.dialect.stop)))
        sampling_params = {**sampling_params, "stop": list(stop), "no_stop_trim": True}
        callback = CALLBACK.get()
        if callback is not None:
            callback.on_start(self.role, trajectory)
        try:
            budget = budget.within(await self.engine.context_limits())
            while trajectory.ending is None:
                if not trajectory.awaits_model:
                    await self._act(trajectory, budget, cancelled)
                elif cancelled is not None and cancelled():
                    trajectory.end(Ending.ABORTED)
                else:
                    await self._speak(trajectory, sampling_params, budget, session_id, cancelled)
        except ServiceError as error:
            trajectory.fail(error)
        except Interrupted:
            trajectory.end(Ending.ABORTED)
        if callback is not None:
            callback.on_end(trajectory)

    async def _speak(
        self,
        trajectory: Trajectory,
        sampling_params: Mapping[str, Any],
        budget: Budget,
        session_id: str | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        if self.context is not None and not trajectory.open_turn:
            go_on_from(trajectory, self.context(trajectory))
        room = budget.room(len(trajectory), sum(len(s.token_ids) for s in trajectory.open_turn))
        if room <= 0:
            trajectory.end(Ending.TRUNCATED)
            return
        request = self.engine.generate(
            trajectory.token_ids, {**sampling_params, "max_new_tokens": room}, session_id=session_id
        )
        completion = await _interruptible(cancelled, request, grace_s=ABORT_GRACE_S)
        if completion.prompt_ids is not None:
            reconcile(trajectory, completion.prompt_ids)
        # A turn that was interrupted goes on; the template wrote nothing there.
        turn = trajectory.open_turn
        opened = "" if turn else self.codec.opened_thought(trajectory.tail(LONGEST_OPENING))
        trajectory.add_completion(completion, self._text(trajectory, turn, completion), opened=opened)
        if (callback := CALLBACK.get()) is not None:
            callback.on_turn(trajectory, trajectory.segments[-1])
        if completion.finish is Finish.ABORT:
            trajectory.end(Ending.ABORTED)

    def _text(self, trajectory: Trajectory, turn: Sequence[Segment], completion: Completion) -> str:
        """What the sampled ids say, behind ``turn``, which ``trajectory`` holds of the same turn already."""
        return text_that_follows(
            self.codec.tokenizer,
            "".join([segment.text for segment in turn]),
            _ids_of(turn),
            completion.token_ids,
            after=trajectory.token_before(turn),
            last=completion.finish is not Finish.ABORT,
        )

    async def _act(self, trajectory: Trajectory, budget: Budget, cancelled: Callable[[], bool] | None = None) -> None:
        turn = trajectory.open_turn
        action = self.dialect.parse("".join(segment.said for segment in turn))
        cut_short = turn[-1].finish is Finish.LENGTH
        match action:
            # An engine that is out of tokens says so even when the last one completes the action. Without stop strings
            # only the end token can, and it is not there.
            case _ if cut_short and (isinstance(action, Invalid) or not self.dialect.stop):
                trajectory.judge_turn(is_valid=False)
                trajectory.end(Ending.TRUNCATED)
            case Answer(text):
                trajectory.judge_turn(is_valid=True)
                trajectory.end(Ending.ANSWERED, answer=text)
            case Invalid():
                self._correct(trajectory, action, budget)
            case CallTools():
                if trajectory.tool_turns >= budget.tool_turns:
                    trajectory.judge_turn(is_valid=True)
                    trajectory.end(Ending.OUT_OF_TURNS)
                else:
                    await self._observe(trajectory, action, budget, cancelled)

    def _correct(self, trajectory: Trajectory, invalid: Invalid, budget: Budget) -> None:
        trajectory.judge_turn(is_valid=False)
        correction = self.dialect.correction(self.codec, invalid, turn_ids=_ids_of(trajectory.open_turn))
        if trajectory.corrections >= budget.corrections:
            trajectory.end(Ending.OUT_OF_TURNS)
        elif budget.context_tokens is not None and (
            len(trajectory) + len(correction.token_ids) + ANSWER_ROOM > budget.context_tokens
        ):
            trajectory.end(Ending.TRUNCATED)
        else:
            _add_observation(trajectory, correction, is_correction=True)

    async def _observe(
        self, trajectory: Trajectory, action: CallTools, budget: Budget, cancelled: Callable[[], bool] | None
    ) -> None:
        made = await _interruptible(cancelled, self._call_all(trajectory, action.calls))
        errors = [call.call.error for call in made if call.call.error is not None]
        if len(errors) == len(made):
            self._correct(trajectory, Invalid("; ".join(dict.fromkeys(errors))), budget)
            return
        trajectory.judge_turn(is_valid=True)
        # A call that its tool refused is answered like one that could not be read.
        action = CallTools(tuple(call.call for call in made))
        results = [call.result for call in made]
        room = budget.observation_tokens
        if budget.context_tokens is not None:
            left = budget.context_tokens - len(trajectory) - ANSWER_ROOM
            room = left if room is None else min(room, left)
        turn_ids = _ids_of(trajectory.open_turn)
        observation = self.dialect.observation(self.codec, action, results, room, turn_ids=turn_ids)
        trajectory.add_calls(action.calls, results, [call.latency_s for call in made])
        if observation is None:
            trajectory.end(Ending.TRUNCATED)
        else:
            _add_observation(trajectory, observation)

    async def _call_all(self, trajectory: Trajectory, calls: Sequence[ToolCall]) -> "list[_MadeCall]":
        """At the same time; when one fails, the others are stopped."""
        if len(calls) == 1:
            return [await self._call(trajectory, calls[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(trajectory, call)) for call in calls]
        except* (ServiceError, Interrupted) as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _call(self, trajectory: Trajectory, call: ToolCall) -> "_MadeCall":
        if call.error is not None:
            return _MadeCall(call, ToolResult((call.error,)), 0.0)
        start = time.perf_counter()
        try:
            result = await self.tools[call.tool](call.query)
        except InvalidQuery as error:
            return _MadeCall(replace(call, error=str(error)), ToolResult((str(error),)), 0.0)
        latency_s = time.perf_counter() - start
        if (callback := CALLBACK.get()) is not None:
            callback.on_call(trajectory, call, result, latency_s)
        return _MadeCall(call, result, latency_s)


@dataclass(frozen=True, slots=True)
class _MadeCall:
    """A call with what came of it; ``call.error`` is set where it could not be carried out."""

    call: ToolCall
    result: ToolResult
    latency_s: float


def _interruptible(cancelled: Callable[[], bool] | None, work: Awaitable[T], *, grace_s: float = 0.0) -> Awaitable[T]:
    return work if cancelled is None else unless_cancelled(cancelled, work, grace_s=grace_s)


def _add_observation(trajectory: Trajectory, observation: Observation, *, is_correction: bool = False) -> None:
    trajectory.add_observation(observation, is_correction=is_correction)
    if (callback := CALLBACK.get()) is not None:
        callback.on_observation(trajectory, trajectory.segments[-1])


def _ids_of(turn: Sequence[Segment]) -> list[int]:
    return list(itertools.chain.from_iterable([segment.token_ids for segment in turn]))


def _as_list(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop or ())
