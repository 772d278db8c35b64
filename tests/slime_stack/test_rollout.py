"""slime's own rollout with our two functions: every token is the engine's or a search result's."""

from collections import Counter
from typing import Any

import pytest

from tests.slime_stack.world import HABITS, World, check_completed, habit
from tests.support.loopback import edited, in_order, status
from tests.support.policies import question_number

FLAGS = "--rollout-batch-size 6 --n-samples-per-prompt 4 --global-batch-size 24 --rollout-shuffle"


def flat(output: Any) -> list[Any]:
    return [sample for group in output.samples for sample in group]


def test_every_sample_of_a_rollout_is_exact(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(12))}")
    source = world.start(args)
    for rollout_id in range(2):
        output = generate_rollout(args, rollout_id, source)
        assert [len(group) for group in output.samples] == [4] * 6
        for sample in flat(output):
            check_completed(world, sample)
        assert len({s.session_id for s in flat(output)}) == 24
    assert {habit(question_number(e.prompt)) for e in world.engine.exchanges} == set(HABITS)
    # The comparison means something only if the policy wavered and the tokens were not canonical.
    rewards = Counter(sample.reward for sample in flat(output))
    assert rewards[1.0] and rewards[0.2]
    assert any(world.tokenizer.encode(s.response) != s.tokens[-s.response_length :] for s in flat(output))


def test_the_command_line_and_the_yaml_reach_the_recipe(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    flags = "--rollout-batch-size 1 --n-samples-per-prompt 1 --global-batch-size 1 --rollout-max-context-len 700"
    args = world.args(f"{flags} --prompt-data {world.data_set([0])} --rollout-temperature 0.7", topk=7)
    generate_rollout(args, 0, world.start(args))
    assert world.retriever.lookups[0].body["topk"] == 7
    first, second = (exchange for exchange in world.engine.exchanges if not exchange.is_probe)
    assert first.sampling_params["temperature"] == 0.7
    assert first.sampling_params["stop"] == ["</search>", "</answer>"]
    assert first.sampling_params["no_stop_trim"] is True
    assert second.sampling_params["max_new_tokens"] == 160


def test_evaluation_shares_one_dict_of_sampling_parameters_that_nobody_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slime.rollout import sglang_rollout

    data = world.data_set(range(6))
    flags = "--rollout-batch-size 1 --n-samples-per-prompt 1 --global-batch-size 1 --eval-interval 1"
    args = world.args(f"{flags} --prompt-data {data} --eval-prompt-data held-out {data} --eval-max-response-len 120")
    seen: list[dict[str, Any]] = []
    generate_and_rm = sglang_rollout.generate_and_rm

    async def watched(args: Any, sample: Any, sampling_params: dict[str, Any], evaluation: bool = False) -> Any:
        seen.append(sampling_params)
        return await generate_and_rm(args, sample, sampling_params, evaluation=evaluation)

    # Only watches: slime keeps the shared dict in a local variable.
    monkeypatch.setattr(sglang_rollout, "generate_and_rm", watched)
    output = sglang_rollout.generate_rollout(args, 0, world.start(args), evaluation=True)
    result = output.data["held-out"]
    assert len(seen) == 6 and len({id(one) for one in seen}) == 1
    assert seen[0]["max_new_tokens"] == 120 and seen[0]["stop"] is None
    assert result["truncated"] == [False, False, False, False, True, True]
    for sample, reward in zip(result["samples"], result["rewards"], strict=True):
        number = question_number(sample.prompt)
        own = [e for e in world.engine.delivered if question_number(e.prompt) == number]
        world.check_exact(sample, own)
        assert reward == sample.reward
    assert all(e.sampling_params["max_new_tokens"] == 120 for e in world.engine.exchanges)


def test_a_retriever_that_fails_some_queries_costs_only_their_samples(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    world.retriever.script = lambda lookup: status(500) if question_number(lookup.query) == 7 else None
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(6, 12))}", max_failure_share=0.5)
    output = generate_rollout(args, 0, world.start(args))
    statuses = {(question_number(s.prompt), s.status.name) for s in flat(output)}
    assert statuses == {
        (6, "COMPLETED"),
        (7, "FAILED"),
        (8, "COMPLETED"),
        (9, "COMPLETED"),
        (10, "TRUNCATED"),
        (11, "TRUNCATED"),
    }
    for sample in flat(output):
        if sample.status.name != "FAILED":
            check_completed(world, sample)
            continue
        world.check_exact(sample)
        assert (sample.reward, sample.remove_sample) == (0.0, True)
        assert sample.response.endswith("</search>")


def test_passing_faults_of_both_services_leave_no_trace(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    world.engine.script = in_order(status(502), None, status(500), edited(lambda answer: {"half": "an answer"}))
    world.retriever.script = in_order(status(503), None, edited(lambda answer: []))
    flags = "--rollout-batch-size 2 --n-samples-per-prompt 2 --global-batch-size 4"
    args = world.args(f"{flags} --prompt-data {world.data_set(range(2))}", engine_attempts=5, search_attempts=4)
    for sample in flat(generate_rollout(args, 0, world.start(args))):
        check_completed(world, sample)
    assert len(world.engine.exchanges) == len(world.engine.delivered) + 3


def test_too_many_failures_stop_the_run_with_the_service_in_the_message(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    from slime_search.errors import TooManyFailures

    world.retriever.script = lambda lookup: status(500)
    flags = "--rollout-batch-size 2 --n-samples-per-prompt 4 --global-batch-size 8"
    args = world.args(f"{flags} --prompt-data {world.data_set([0, 1, 6, 7])}", max_failure_share=0.25)
    with pytest.raises(TooManyFailures, match=r"\d of the last \d .* retriever.*max_failure_share"):
        generate_rollout(args, 0, world.start(args))


def test_as_many_requests_are_in_flight_as_slime_allows(world: World) -> None:
    """slime allows --sglang-server-concurrency for each of its engines, and says nowhere how many it has."""
    from slime.rollout.sglang_rollout import generate_rollout

    world.engine.latency_s = 0.3
    flags = "--rollout-batch-size 4 --n-samples-per-prompt 4 --global-batch-size 16 --sglang-server-concurrency 2"
    args = world.args(f"{flags} --prompt-data {world.data_set([2, 8, 14, 20])} --rollout-num-gpus 4")
    generate_rollout(args, 0, world.start(args))
    assert world.engine.peak_in_flight == 2 * 4
