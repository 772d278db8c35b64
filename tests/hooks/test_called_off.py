"""A sample that slime called off before it began is whole for every hook, trains nothing, and can begin later."""

from pathlib import Path
from typing import Any

import pytest

from slime_search.core.trajectory import Ending
from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.metrics import log_rollout
from slime_search.hooks.samples import read_trajectory
from tests.support.policies import think_answer, turns_of
from tests.support.rollouts import PROMPT, arguments, generate, new_sample, passage, recipe
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.told_tokens import REPLAY, held_nuclei

ESTIMATOR = {"advantage_estimator": "grpo", "rewards_normalization": True, "grpo_std_normalization": False}


@pytest.fixture
def engine(qwen: Any) -> Any:
    with ScriptedEngine(qwen, turns_of(think_answer("name-7"))) as running:
        yield running


def rolled_out(engine: ScriptedEngine, folder: Path, *, log_probs: bool = True, **options: Any) -> tuple[Any, Any]:
    args = arguments(engine, folder, **ESTIMATOR, **options)
    with ScriptedRetriever(passage) as retriever:
        one = recipe(retriever, return_logprob=log_probs)
        (done,) = generate(one, args, [new_sample(7, group_index=0)])
    return args, done


@pytest.mark.parametrize("log_probs", [True, False])
def test_it_is_as_long_as_slime_wants_and_has_what_the_others_have(
    log_probs: bool, engine: ScriptedEngine, qwen: Any, qwen_folder: Path
) -> None:
    args, done = rolled_out(engine, qwen_folder, log_probs=log_probs)
    before = list(done.tokens)
    # The first of a batch, by which slime tells what all of them have.
    samples = [
        new_sample(8, group_index=0),
        done,
        new_sample(9, group_index=0, prompt=[{"role": "user", "content": "?"}]),
    ]
    raw, normalized = normalize_rewards(args, samples)
    assert (raw, normalized) == ([0.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    for sample in (samples[0], samples[2]):
        assert (sample.response_length, sample.loss_mask, sample.remove_sample) == (1, [0], True)
        assert sample.rollout_log_probs == ([0.0] if log_probs else None)
        assert sample.status is LocalSample.Status.ABORTED and len(sample.tokens) > 1
    assert samples[0].tokens[:-1] == qwen.encode(PROMPT.format(number=8), add_special_tokens=False)
    assert done.tokens == before and not done.remove_sample


def test_it_has_what_slimes_options_want_of_each_token(engine: ScriptedEngine, qwen_folder: Path) -> None:
    args = arguments(engine, qwen_folder, rollout_top_p=0.9, **REPLAY)
    sample = new_sample()
    complete(args, [sample])
    assert held_nuclei(sample) == [[]]
    assert len(sample.rollout_routed_experts or []) == len(sample.tokens) - 1


def test_slimes_own_metrics_find_a_reward(engine: ScriptedEngine, qwen_folder: Path) -> None:
    """slime logs before it converts, and rounds the reward of each group."""
    args, done = rolled_out(engine, qwen_folder)
    extra: dict[str, Any] = {}
    called_off = new_sample(8, group_index=1)
    log_rollout(0, args, [called_off, done], extra, 1.0)
    assert called_off.reward == 0.0
    assert (extra["search/aborted"], extra["search/em"]) == (0.5, 1.0)


def test_it_can_begin_later(engine: ScriptedEngine, qwen_folder: Path) -> None:
    args, _ = rolled_out(engine, qwen_folder)
    sample = new_sample(7, group_index=0)
    complete(args, [sample])
    assert read_trajectory(sample).ending is Ending.ABORTED
    with ScriptedRetriever(passage) as retriever:
        generate(recipe(retriever), args, [sample])
    assert (sample.status, sample.reward) == (LocalSample.Status.COMPLETED, 1.0)
    assert not sample.remove_sample and read_trajectory(sample).answer == "name-7"


def test_a_prompt_of_no_tokens_has_one_to_stand_on(engine: ScriptedEngine, qwen_folder: Path) -> None:
    sample = new_sample(prompt="")
    complete(arguments(engine, qwen_folder), [sample])
    assert (len(sample.tokens), sample.response_length, sample.loss_mask) == (2, 1, [0])


def test_one_whose_reward_alone_is_missing_keeps_its_tokens(engine: ScriptedEngine, qwen_folder: Path) -> None:
    args, done = rolled_out(engine, qwen_folder)
    tokens, done.reward = list(done.tokens), None
    complete(args, [done])
    assert (done.tokens, done.reward, done.remove_sample) == (tokens, 0.0, True)
