"""slime's --use-distributed-post: its Ray actors carry our requests."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.slime_stack.world import World, check_completed
from tests.support.loopback import status, truncated
from tests.support.scripted_engine import Exchange

FLAGS = (
    "--rollout-batch-size 2 --n-samples-per-prompt 2 --global-batch-size 4 --num-gpus-per-node 1 "
    "--use-distributed-post "
)


@pytest.fixture
def actors(ray: Any, world: World) -> Iterator[None]:
    """slime makes its actors detached and keeps them for the life of the process."""
    from slime.utils import http_utils

    yield
    for actor in http_utils._post_actors:
        ray.kill(actor)
    http_utils._post_actors.clear()
    http_utils._distributed_post_enabled = False


def test_requests_travel_through_slimes_actors(world: World, actors: None, caplog: pytest.LogCaptureFixture) -> None:
    from slime.rollout.sglang_rollout import generate_rollout
    from slime.utils import http_utils

    caplog.set_level(logging.INFO, "slime.utils.http_utils")
    cut_short: list[int] = []

    def script(exchange: Exchange) -> Any:
        """One answer arrives as half a JSON text, which slime hands over as a string."""
        if not cut_short:
            cut_short.append(exchange.number)
            return truncated
        return None

    world.engine.script = script
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(2))}")
    output = generate_rollout(args, 0, world.start(args))
    assert len(http_utils._post_actors) == 1
    for group in output.samples:
        for sample in group:
            check_completed(world, sample)
    assert len(world.engine.exchanges) == len(world.engine.delivered) + 1
    # slime sends from this process when an actor fails, and says so.
    assert "falling back to local" not in caplog.text


@pytest.mark.timeout(30)
def test_an_engine_that_is_down_fails_the_samples_after_our_attempts(world: World, actors: None) -> None:
    """slime's own sixty retries, one second apart, would multiply with ours."""
    from slime.rollout.sglang_rollout import generate_rollout

    world.engine.script = lambda exchange: status(500)
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(2))}", engine_attempts=1, max_failure_share=1.0)
    output = generate_rollout(args, 0, world.start(args))
    for group in output.samples:
        for sample in group:
            assert (sample.status.name, sample.reward, sample.remove_sample) == ("FAILED", 0.0, True)
    # slime sends once through an actor and once more by itself.
    assert len(world.engine.exchanges) <= 2 * 4


@pytest.mark.timeout(30)
def test_an_engine_that_refuses_is_not_asked_again(world: World, actors: None) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    world.engine.script = lambda exchange: status(422, text="input_ids: too long")
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(2))}", engine_attempts=5, max_failure_share=1.0)
    output = generate_rollout(args, 0, world.start(args))
    assert {sample.status.name for group in output.samples for sample in group} == {"FAILED"}
    assert len(world.engine.exchanges) <= 2 * 4
