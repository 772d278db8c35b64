"""Between slime's Sample and a Trajectory: nothing is lost, whatever interrupts a rollout."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Ending, Owner
from slime_search.errors import DataError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY, open_trajectory, read_trajectory
from slime_search.recipes.search_r1 import SearchR1
from tests.support.loopback import in_order, status
from tests.support.policies import think_answer, think_search
from tests.support.rollouts import PROMPT, arguments, generate, new_sample, recipe, sampling_params
from tests.support.scripted_engine import Abort, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import training_view

Status = LocalSample.Status
SEARCH, ANSWER = think_search("thing-7 maker"), think_answer("name-7")


class World:
    """An engine that searches and then answers, a retriever, and a recipe between them."""

    def __init__(self, engine: ScriptedEngine, retriever: ScriptedRetriever, folder: Path) -> None:
        self.engine, self.retriever, self.folder = engine, retriever, folder

    def run(self, sample: LocalSample, *, config: Any = None) -> LocalSample:
        args = arguments(self.engine, self.folder)
        (done,) = generate(recipe(self.retriever, **(config or {})), args, [sample])
        assert done is sample
        return done


@pytest.fixture
def world(searching: Any, qwen_folder: Path) -> World:
    return World(*searching, qwen_folder)


def check_exact(sample: LocalSample, engine: ScriptedEngine) -> None:
    view = training_view(engine.delivered)
    assert sample.tokens == view.tokens
    assert sample.response_length == len(view.loss_mask)
    assert sample.loss_mask == view.loss_mask
    assert sample.rollout_log_probs == view.log_probs


def check_trainable_shape(sample: LocalSample) -> None:
    """What slime's conversion and loss ask of every sample, whatever became of it."""
    assert sample.response_length >= 1
    assert len(sample.tokens) > sample.response_length
    assert sample.loss_mask is not None and len(sample.loss_mask) == sample.response_length
    if sample.rollout_log_probs is not None:
        assert len(sample.rollout_log_probs) == sample.response_length
    assert isinstance(sample.reward, float)
    json.dumps(sample.metadata)


def through_storage(sample: LocalSample) -> LocalSample:
    """As a requeued or dumped sample comes back: its record has been JSON."""
    sample.metadata = json.loads(json.dumps(sample.metadata))
    return sample


def test_a_completed_sample_is_exactly_what_the_engine_sampled(world: World, qwen: Any) -> None:
    sample = world.run(new_sample(metadata={"split": "train"}))
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.COMPLETED, 1.0, False)
    check_exact(sample, world.engine)
    check_trainable_shape(sample)
    assert sample.tokens[: -sample.response_length] == qwen.encode(sample.prompt, add_special_tokens=False)
    assert sample.response.startswith(SEARCH) and sample.response.endswith(ANSWER)
    assert qwen.decode(sample.tokens[-sample.response_length :], skip_special_tokens=False) == sample.response
    assert sample.weight_versions == ["default", "default"]
    assert sample.metadata["split"] == "train"
    assert sample.metadata[RECORD_KEY]["score"]["em"] == 1.0
    (call,) = read_trajectory(sample).calls
    assert (call.query, call.passages[0].title) == ("thing-7 maker", "About thing-7")
    assert sample.non_generation_time == call.latency_s > 0


def test_a_chat_prompt_is_rendered_by_the_template(world: World, qwen: Any) -> None:
    messages = [{"role": "user", "content": "Who made thing-7?"}]
    sample = world.run(new_sample(prompt=messages))
    assert sample.tokens[: -sample.response_length] == qwen.encode(PROMPT.format(number=7), add_special_tokens=False)
    assert sample.reward == 1.0


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("tokens", [1, 9])
def test_an_abort_within_a_turn_is_resumed_within_that_turn(turn: int, tokens: int, world: World) -> None:
    world.engine.script = lambda exchange: Abort(tokens) if exchange.number == turn else None
    sample = world.run(new_sample())
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.ABORTED, 0.0, True)
    check_exact(sample, world.engine)
    check_trainable_shape(sample)
    length = sample.response_length
    world.run(through_storage(sample))
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.COMPLETED, 1.0, False)
    check_exact(sample, world.engine)
    assert sample.response_length > length
    assert list(read_trajectory(sample).turns()) == [SEARCH, ANSWER]
    assert world.retriever.queries == ["thing-7 maker"]
    assert [e.sampling_params["max_new_tokens"] for e in world.engine.exchanges][turn + 1] == 200 - tokens


@pytest.mark.parametrize("log_probs", [True, False])
def test_an_abort_before_any_token_leaves_one_masked_token_and_is_resumed(log_probs: bool, world: World) -> None:
    config = {"return_logprob": log_probs}
    world.engine.script = in_order(Abort(0), Abort(0))
    sample = world.run(new_sample(), config=config)
    for _ in range(2):
        assert (sample.status, sample.reward, sample.remove_sample) == (Status.ABORTED, 0.0, True)
        check_trainable_shape(sample)
        assert (sample.response_length, sample.loss_mask, sample.response) == (1, [0], "")
        assert read_trajectory(sample).ending is Ending.ABORTED
        assert read_trajectory(sample).response_ids == []
        # The engine aborts once more, and then goes on.
        world.run(through_storage(sample), config=config)
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.COMPLETED, 1.0, False)
    view = training_view(world.engine.delivered)
    assert (sample.tokens, sample.loss_mask) == (view.tokens, view.loss_mask)


def test_a_failed_search_is_repeated_when_the_sample_comes_again(world: World) -> None:
    world.retriever.script = in_order(status(500), status(500))
    sample = world.run(new_sample())
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.FAILED, 0.0, True)
    check_trainable_shape(sample)
    assert sample.response == SEARCH
    world.run(through_storage(sample))
    assert (sample.status, sample.reward, sample.remove_sample) == (Status.COMPLETED, 1.0, False)
    assert world.retriever.queries == ["thing-7 maker"] * 3
    assert len(world.engine.exchanges) == 2
    check_exact(sample, world.engine)


def test_a_failing_engine_leaves_one_masked_token(world: World) -> None:
    world.engine.script = lambda exchange: status(500) if exchange.number < 2 else None
    sample = world.run(new_sample())
    assert (sample.status, sample.remove_sample, sample.loss_mask) == (Status.FAILED, True, [0])
    check_trainable_shape(sample)
    world.run(through_storage(sample))
    assert sample.reward == 1.0
    check_exact(sample, world.engine)


def test_a_prompt_without_room_is_truncated_with_one_masked_token(world: World, qwen: Any) -> None:
    room = max(64, len(qwen.encode(PROMPT.format(number=7), add_special_tokens=False)))
    sample = world.run(new_sample(prompt="x " * 99 + PROMPT.format(number=7)), config={"max_context_tokens": room})
    assert (sample.status, sample.reward, sample.loss_mask) == (Status.TRUNCATED, 0.0, [0])
    check_trainable_shape(sample)
    assert world.engine.exchanges == []


def test_without_log_probabilities_no_sample_has_any(world: World) -> None:
    config = {"return_logprob": False}
    world.engine.script = in_order(Abort(3))
    sample = world.run(new_sample(), config=config)
    check_trainable_shape(sample)
    world.run(through_storage(sample), config=config)
    assert (sample.status, sample.reward, sample.rollout_log_probs) == (Status.COMPLETED, 1.0, None)
    view = training_view(world.engine.delivered)
    assert (sample.tokens, sample.loss_mask, sample.response_length) == (
        view.tokens,
        view.loss_mask,
        len(view.loss_mask),
    )
    assert sample.weight_versions == ["default"] * 3
    assert [e.body["return_logprob"] for e in world.engine.exchanges] == [False] * 3


def test_a_mask_that_slime_zeroed_before_resuming_stays_zero(world: World) -> None:
    """slime's mask_offpolicy_in_partial_rollout: tokens of an older policy are not trained on."""
    world.engine.script = lambda exchange: Abort(5) if exchange.number == 1 else None
    sample = world.run(new_sample())
    kept = sample.response_length
    sample.loss_mask = [0] * kept
    world.run(through_storage(sample))
    assert sample.reward == 1.0
    view = training_view(world.engine.delivered)
    assert sample.loss_mask == [0] * kept + view.loss_mask[kept:]
    assert sum(sample.loss_mask) > 0


def test_shared_sampling_parameters_are_never_changed(world: World) -> None:
    args, params = arguments(world.engine, world.folder), sampling_params(stop=["</s>"])
    before = copy.deepcopy(params)
    samples = [new_sample(7, index=index) for index in range(3)]
    generate(recipe(world.retriever), args, samples, params)
    assert [sample.reward for sample in samples] == [1.0] * 3
    assert params == before
    assert world.engine.exchanges[0].sampling_params["stop"] == ["</s>", "</search>", "</answer>"]


class Colder(SearchR1):
    """Changes what it samples with."""

    async def _run(self, parts: Any, rollout: Any) -> None:
        rollout.sampling_params["temperature"] /= 2
        rollout.sampling_params["stop"].append("</b>")
        await super()._run(parts, rollout)


def test_a_recipe_may_change_the_parameters_of_its_own_rollout(world: World) -> None:
    args, params = arguments(world.engine, world.folder), sampling_params(stop=["</a>"])
    one = Colder({"local": {"search_url": world.retriever.search_url}})
    generate(one, args, [new_sample(7, index=index) for index in range(3)], params)
    assert (params["temperature"], params["stop"]) == (1.0, ["</a>"])
    turns = [exchange.sampling_params for exchange in world.engine.exchanges if not exchange.is_probe]
    assert {turn["temperature"] for turn in turns} == {0.5}
    assert all(turn["stop"][:2] == ["</a>", "</b>"] for turn in turns)


def test_the_record_holds_plain_json_and_reads_back(world: World) -> None:
    sample = world.run(new_sample())
    record = json.loads(json.dumps(sample.metadata[RECORD_KEY]))
    assert [s["owner"] for s in record["segments"]] == ["model", "world", "model"]
    trajectory = read_trajectory(through_storage(sample))
    assert (trajectory.ending, trajectory.answer) == (Ending.ANSWERED, "name-7")
    assert trajectory.token_ids == sample.tokens
    assert trajectory.log_probs == sample.rollout_log_probs
    assert [s.owner for s in trajectory.segments] == [Owner.MODEL, Owner.WORLD, Owner.MODEL]


def test_a_sample_of_another_generate_function_is_refused(qwen: Any) -> None:
    stranger = LocalSample(index=3, prompt="p", tokens=[1, 2], response_length=1, response="x", loss_mask=[1])
    for reading in (lambda: open_trajectory(stranger, TokenCodec(qwen)), lambda: read_trajectory(stranger)):
        with pytest.raises(DataError, match=r"sample 3: .*--custom-generate-function-path") as caught:
            reading()
        assert "--custom-rm-path" in str(caught.value)


def test_a_finished_sample_is_not_generated_again(world: World) -> None:
    sample = world.run(new_sample())
    with pytest.raises(DataError, match="ended answered"):
        world.run(sample)
