"""A callback hears of everything that agents do, in order."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from slime_search.core.agent import Budget
from slime_search.core.callbacks import CALLBACK, use_callback
from slime_search.core.dialect import ToolCall
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Segment, Trajectory
from slime_search.transport.client import close_sessions
from tests.recipes.coda.test_coda import planner_turn, team, think
from tests.recipes.coda.test_coda import recipe as coda
from tests.support.agent_runs import OUTAGE, agent, rollout, start, tool
from tests.support.policies import think_answer, think_search, turns_of
from tests.support.rollouts import arguments, new_sample, passage, sampling_params
from tests.support.scripted_engine import MemoryEngine, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever


class Diary:
    """What was told, each trajectory by the number in which it began."""

    def __init__(self) -> None:
        self.began_with: list[Trajectory] = []
        self.lines: list[tuple[Any, ...]] = []
        self.seconds: list[float] = []

    def on_start(self, role: str, trajectory: Trajectory) -> None:
        self.began_with.append(trajectory)
        self._write("start", trajectory, role)

    def on_turn(self, trajectory: Trajectory, segment: Segment) -> None:
        assert trajectory.segments[-1] is segment
        self._write("turn", trajectory, segment.text)

    def on_observation(self, trajectory: Trajectory, segment: Segment) -> None:
        assert trajectory.segments[-1] is segment
        self._write("correction" if segment.is_correction else "observation", trajectory, segment.text)

    def on_call(self, trajectory: Trajectory, call: ToolCall, result: ToolResult, latency_s: float) -> None:
        self.seconds.append(latency_s)
        self._write("call", trajectory, call.query, [p.text for p in result.passages] or list(result.blocks))

    def on_end(self, trajectory: Trajectory) -> None:
        self._write("end", trajectory, trajectory.ending)

    def _write(self, event: str, trajectory: Trajectory, *told: Any) -> None:
        number = next(n for n, one in enumerate(self.began_with) if one is trajectory)
        self.lines.append((event, number, *told))


def watched(qwen: Any, *turns: str, search: Any = None) -> Diary:
    diary = Diary()
    engine = MemoryEngine(qwen, turns_of(*turns))
    one = agent(engine, qwen, search or tool(["made by name-7"]))

    async def run() -> None:
        with use_callback(diary):
            await one.run(start(qwen), {"skip_special_tokens": False}, Budget(2, 2, 200))

    asyncio.run(run())
    return diary


def test_turns_searches_corrections_and_the_ending_are_told_in_order(
    qwen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.perf_counter", map(float, count()).__next__)
    diary = watched(qwen, "oops<|im_end|>", think_search("thing-7 maker"), think_answer("name-7"))
    events = [line[0] for line in diary.lines]
    assert events == ["start", "turn", "correction", "turn", "call", "observation", "turn", "end"]
    assert diary.lines[4][2:] == ("thing-7 maker", ["made by name-7"])
    assert diary.seconds == [1.0]
    assert diary.lines[0][2] == "agent"
    assert diary.lines[-1][2] == "answered"


def test_a_failure_is_told_as_an_ending(qwen: Any) -> None:
    diary = watched(qwen, think_search("thing-7 maker"), search=tool(OUTAGE))
    assert [line[0] for line in diary.lines] == ["start", "turn", "end"]
    assert diary.lines[-1][2] == "failed"
    assert diary.began_with[0].error == str(OUTAGE)


def test_what_is_watched_is_what_happens_unwatched(qwen: Any) -> None:
    turns = (think_search("thing-7 maker"), think_answer("name-7"))
    unwatched, _ = rollout(qwen, *turns)
    (seen,) = watched(qwen, *turns).began_with
    assert CALLBACK.get() is None
    assert (seen.token_ids, seen.loss_mask, seen.answer) == (
        unwatched.token_ids,
        unwatched.loss_mask,
        unwatched.answer,
    )


def test_executors_side_by_side_begin_in_the_order_of_their_tasks(qwen_folder: Path, qwen: Any) -> None:
    def planner(context: str) -> str:
        if "</result>" in context:
            return planner_turn(context)
        return f"{think('Two things.')}<task> Find who made thing-1.\nFind who made thing-2. </task>"

    diary = Diary()

    async def run(args: Any, recipe: Any) -> None:
        try:
            with use_callback(diary):
                await recipe.generate(args, new_sample(7), sampling_params())
        finally:
            await close_sessions()

    with ScriptedEngine(qwen, team(planner)) as engine, ScriptedRetriever(passage) as retriever:
        asyncio.run(run(arguments(engine, qwen_folder, apply_chat_template=True), coda(retriever, tasks_per_turn=2)))
    assert [line[2] for line in diary.lines if line[0] == "start"] == ["planner", "executor", "executor"]
    searches = {line[1]: line[2] for line in diary.lines if line[0] == "call" and line[1] > 0}
    assert searches == {1: "thing-1 maker", 2: "thing-2 maker"}
    results = [line[2:] for line in diary.lines if line[0] == "call" and line[1] == 0]
    assert sorted(results) == [
        ("Find who made thing-1.", ["It was name-1."]),
        ("Find who made thing-2.", ["It was name-2."]),
    ]
