"""A cancelled rollout stops waiting, keeps what was sampled, and repeats what was stopped when it is resumed."""

import asyncio
from typing import Any

import pytest

from slime_search.core import agent as loop
from slime_search.core.agent import Agent, Budget
from slime_search.core.cancellation import unless_cancelled
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Ending
from slime_search.dialects.tags import TagDialect
from slime_search.errors import Interrupted
from tests.support.agent_runs import agent, run, start, stored_and_read, tool
from tests.support.loopback import until
from tests.support.policies import think_answer, think_search, turns_of
from tests.support.scripted_engine import MemoryEngine
from tests.support.training_view import training_view

BUDGET = Budget(tool_turns=2, corrections=0, turn_tokens=200)


class Waiting:
    """Never answers. ``asked`` says whether somebody waits, ``stopped`` whether somebody stopped waiting."""

    def __init__(self) -> None:
        self.asked = self.stopped = False

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.asked = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise

    def is_asked(self) -> bool:
        return self.asked


def test_work_that_ends_first_gives_its_result_and_its_errors() -> None:
    async def seven() -> int:
        return 7

    async def wrong() -> int:
        raise TimeoutError("its own")

    assert asyncio.run(unless_cancelled(lambda: True, seven())) == 7
    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(unless_cancelled(lambda: False, wrong()))


def test_work_is_stopped_once_the_rollout_is_cancelled() -> None:
    waiting = Waiting()
    with pytest.raises(Interrupted):
        asyncio.run(unless_cancelled(waiting.is_asked, waiting()))
    assert waiting.stopped


def test_a_grace_lets_cancelled_work_end_by_itself() -> None:
    async def both() -> str:
        heard = asyncio.Event()

        def is_cancelled() -> bool:
            heard.set()
            return True

        async def ends_when_cancelled() -> str:
            await heard.wait()
            return "what there was"

        return await unless_cancelled(is_cancelled, ends_when_cancelled(), grace_s=3600.0)

    assert asyncio.run(both()) == "what there was"


def test_the_task_that_waits_can_be_cancelled_itself() -> None:
    async def both() -> None:
        waiting = Waiting()
        task = asyncio.create_task(unless_cancelled(lambda: False, waiting()))
        await until(waiting.is_asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())


@pytest.mark.parametrize("times", [1, 2])
def test_a_search_is_left_at_once_and_repeated_later(times: int, qwen: Any) -> None:
    waiting = Waiting()
    engine = MemoryEngine(qwen, turns_of(think_search("thing-7 maker"), think_answer("name-7")))
    trajectory = start(qwen)
    for _ in range(times):
        waiting.asked = waiting.stopped = False
        run(agent(engine, qwen, waiting), trajectory, BUDGET, cancelled=waiting.is_asked)
        assert (trajectory.ending, waiting.stopped) == (Ending.ABORTED, True)
        assert list(trajectory.turns()) == [think_search("thing-7 maker")]
        assert trajectory.calls == [] and len(engine.exchanges) == 1
        trajectory = stored_and_read(trajectory)
        trajectory.reopen()
    run(agent(engine, qwen, tool(["made by name-7"])), trajectory, BUDGET)
    assert trajectory.answer == "name-7"
    view = training_view(engine.exchanges)
    assert (trajectory.token_ids, trajectory.loss_mask) == (view.tokens, view.loss_mask)
    assert [call.query for call in trajectory.calls] == ["thing-7 maker"]
    assert [s.is_valid for s in trajectory.segments] == [True, None, True]


def test_an_engine_that_hangs_holds_a_cancelled_rollout_for_its_grace_only(
    qwen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "ABORT_GRACE_S", 0.0)
    waiting = Waiting()
    engine = MemoryEngine(qwen, turns_of(think_search("thing-7 maker")))
    answer = engine.generate

    async def generate(*arguments: Any, **options: Any) -> Any:
        return await (waiting() if engine.exchanges else answer(*arguments, **options))

    engine.generate = generate  # type: ignore[method-assign]
    trajectory = run(agent(engine, qwen, tool(["text"])), start(qwen), BUDGET, cancelled=waiting.is_asked)
    assert (trajectory.ending, waiting.stopped) == (Ending.ABORTED, True)
    assert trajectory.response.endswith("</information>\n\n")


def test_several_calls_of_a_turn_are_stopped_together(qwen: Any) -> None:
    tags = TagDialect(tools={"search": "information"}, calls_per_turn=2)
    waiting = {"a": Waiting(), "b": Waiting()}

    async def search(query: str) -> Any:
        return await waiting[query]()

    engine = MemoryEngine(qwen, turns_of("<think> t </think><search> a\nb </search>"))
    one = Agent(engine, tags, {"search": search}, TokenCodec(qwen, tags.tags))
    trajectory = run(one, start(qwen), BUDGET, cancelled=lambda: all(w.asked for w in waiting.values()))
    assert trajectory.ending is Ending.ABORTED
    assert all(w.stopped for w in waiting.values())


def test_a_search_that_answers_before_the_cancellation_is_kept(qwen: Any) -> None:
    cancelled = False

    async def search(query: str) -> ToolResult:
        nonlocal cancelled
        cancelled = True
        return ToolResult(("found",))

    engine = MemoryEngine(qwen, turns_of(think_search("q"), think_answer("a")))
    trajectory = run(agent(engine, qwen, search), start(qwen), BUDGET, cancelled=lambda: cancelled)
    assert trajectory.ending is Ending.ABORTED
    assert trajectory.response.endswith("<information>found</information>\n\n")
