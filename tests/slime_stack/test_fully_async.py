"""slime's fully asynchronous rollout, whose worker requeues aborted groups by itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.slime_stack.world import World, check_completed
from tests.support.loopback import status
from tests.support.policies import question_number, spoken_turns
from tests.support.processes import wait_until
from tests.support.scripted_engine import Abort, Exchange


@pytest.fixture
def stopped_worker(world: World) -> Iterator[None]:
    """The worker is a global thread that would go on taking prompts after the test."""
    from slime.rollout import fully_async_rollout

    yield
    fully_async_rollout._stop_global_worker()


def test_an_aborted_group_comes_back_whole_and_exact(world: World, stopped_worker: None) -> None:
    from slime.rollout.fully_async_rollout import generate_rollout_fully_async

    flags = "--rollout-batch-size 2 --n-samples-per-prompt 2 --global-batch-size 4 --sglang-server-concurrency 4"
    args = world.args(f"{flags} --prompt-data {world.data_set([0, 1, 2, 3])}")
    source = world.start(args)
    aborted: set[str] = set()

    def script(exchange: Exchange) -> Abort | None:
        """Each sample of question 1 loses its second turn once, as in a weight update."""
        key = exchange.headers["X-SMG-Routing-Key"]
        if question_number(exchange.prompt) != 1 or spoken_turns(exchange.prompt) != 1 or key in aborted:
            return None
        aborted.add(key)
        return Abort(7)

    world.engine.script = script
    groups: list[list[Any]] = []
    while not any(question_number(group[0].prompt) == 1 for group in groups):
        assert len(groups) < 20, "the aborted group never came back"
        groups += generate_rollout_fully_async(args, len(groups), source)
    assert {len(group) for group in groups} == {2}
    assert {sample.session_id for group in groups for sample in group} & aborted
    for group in groups:
        for sample in group:
            check_completed(world, sample)


def test_too_many_failures_are_named_in_the_log_since_this_worker_can_not_be_stopped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """slime's worker logs what a task raises and goes on, so the log is where a person learns of it."""
    from slime.rollout.fully_async_rollout import AsyncRolloutWorker

    world.retriever.script = lambda lookup: status(500)
    flags = "--rollout-batch-size 2 --n-samples-per-prompt 2 --global-batch-size 4"
    args = world.args(f"{flags} --prompt-data {world.data_set([0, 1, 6, 7])}", max_failure_share=0.0)
    worker = AsyncRolloutWorker(args, world.start(args), concurrency=2)
    worker.start()
    try:
        wait_until(lambda: "TooManyFailures" in caplog.text)
    finally:
        worker.stop()
    assert "because of the retriever" in caplog.text
    assert worker.queue_size() == 0
