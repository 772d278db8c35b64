"""An evaluation data set's own reward function, which slime's --eval-config names, on samples that our hooks made."""

from typing import Any

import pytest
import yaml

from slime_search.hooks.metrics import rollout_metrics
from slime_search.hooks.samples import fail_rollout, read_whole, whole_rollout
from tests.slime_stack.test_coda_rollout import CodaWorld
from tests.slime_stack.test_coda_rollout import world as coda  # noqa: F401
from tests.slime_stack.world import World, expected_reward
from tests.support.policies import question_number

FLAGS = "--rollout-batch-size 1 --n-samples-per-prompt 1 --global-batch-size 1 --eval-interval 1"


async def own_reward(args: Any, sample: Any, **kwargs: Any) -> float:
    """Like no reward of ours: ten, one more for each call in the rollout, and a half where there is an answer."""
    rollout = whole_rollout(sample)
    calls = sum(len(read_whole([part]).calls) for part in rollout)
    return 10.0 + calls + 0.5 * (read_whole([sample]).answer is not None)


def evaluated(world: World, numbers: list[int]) -> dict[str, Any]:
    """What slime reports of the same questions as two data sets, of which one names a reward function."""
    from slime.rollout.sglang_rollout import generate_rollout

    pytest.importorskip("omegaconf")
    data = str(world.data_set(numbers))
    sets = [
        {"name": "its-own", "path": data, "custom_rm_path": f"{__name__}.own_reward"},
        {"name": "the-runs", "path": data},
    ]
    config = world.folder / "eval.yaml"
    config.write_text(yaml.safe_dump({"eval": {"datasets": sets, "defaults": {"max_response_len": 120}}}))
    args = world.args(f"{FLAGS} --prompt-data {data} --eval-config {config}")
    found: dict[str, Any] = generate_rollout(args, 0, world.start(args), evaluation=True).data
    assert all(len(result["samples"]) == len(numbers) for result in found.values())
    return found


def test_a_data_sets_own_function_scores_its_samples_and_no_others(world: World) -> None:
    found = evaluated(world, [0, 1])
    for number, reward in enumerate(found["its-own"]["rewards"]):
        # Questions 0 and 1 are met with as many searches and one more.
        assert reward == 10.0 + (number + 1) + 0.5
    for sample, reward in zip(found["the-runs"]["samples"], found["the-runs"]["rewards"], strict=True):
        last_turn = sample.response.rpartition("</information>")[2]
        assert reward == pytest.approx(expected_reward(question_number(sample.prompt), last_turn))


def test_of_several_agents_it_is_asked_once_a_rollout_and_finds_them_all(coda: CodaWorld) -> None:  # noqa: F811
    found = evaluated(coda, [1, 2])
    # The planner delegates once and twice, and each executor searches once.
    assert found["its-own"]["rewards"] == [10.0 + 2 * number + 0.5 for number in (1, 2)]
    assert set(found["the-runs"]["rewards"]) <= {0.3, 1.3}


calls = 0
"""Of the judge, in the test that runs."""


async def judged(args: Any, sample: Any, **kwargs: Any) -> float:
    """A reward function whose judge is down at its third call, and who says so as documented."""
    try:
        return await raising(args, sample)
    except ConnectionError as error:
        fail_rollout(args, whole_rollout(sample), "judge", str(error))
        assert isinstance(sample.reward, float)
        return sample.reward


async def raising(args: Any, sample: Any, **kwargs: Any) -> float:
    """The same judge, whose error nobody catches."""
    global calls
    calls += 1
    if calls == 3:
        raise ConnectionError("the judge is down")
    return 1.0


def trained_by(world: World, name: str) -> tuple[Any, Any]:
    """slime's arguments with that reward function, and its data source."""
    global calls
    calls = 0
    data = world.data_set([0, 1, 2, 6])
    flags = "--rollout-batch-size 2 --n-samples-per-prompt 2 --global-batch-size 4"
    args = world.args(f"{flags} --prompt-data {data} --custom-rm-path {__name__}.{name}")
    return args, world.start(args)


def test_what_can_not_be_scored_leaves_training_and_stops_nothing(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    args, source = trained_by(world, "judged")
    samples = [sample for group in generate_rollout(args, 0, source).samples for sample in group]
    (failed,) = [sample for sample in samples if sample.remove_sample]
    assert (failed.reward, failed.status.name) == (0.0, "FAILED")
    assert [sample.reward for sample in samples if sample is not failed] == [1.0] * 3
    assert rollout_metrics(samples)["search/failed"] == 0.25
    assert len(generate_rollout(args, 1, source).samples) == 2


def test_a_reward_function_that_raises_ends_the_next_rollout_too(world: World) -> None:
    """Why it should not: slime counts the first one's groups as still under way, and waits for none."""
    from slime.rollout.sglang_rollout import generate_rollout

    args, source = trained_by(world, "raising")
    with pytest.raises(ConnectionError):
        generate_rollout(args, 0, source)
    with pytest.raises(ValueError, match=r"Tasks/Futures is empty"):
        generate_rollout(args, 1, source)
