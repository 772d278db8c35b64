"""Which of slime's options are refused, and that they are before anything is asked of an engine."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slime_search.config import SearchConfig, load_config
from slime_search.errors import ConfigError
from slime_search.hooks.slime_options import DEFAULTS, ESTIMATORS, check_options, check_several, conflicts
from tests.support.policies import think_answer
from tests.support.rollouts import arguments, generate, new_sample, passage, recipe
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

ONE_STEP = {"rollout_batch_size": 4, "n_samples_per_prompt": 2, "global_batch_size": 8}
WITHOUT = {"return_logprob": False}
FILTERS = "slime.rollout.filter_hub.dynamic_sampling_filters.check_reward_nonzero_std"
TEACHER = "slime.rollout.on_policy_distillation.post_process_rewards"


def config(**changes: Any) -> SearchConfig:
    return load_config(changes)


def said(options: dict[str, Any], settings: dict[str, Any] | None = None, *, several: str = "") -> list[str]:
    args = SimpleNamespace(**{**DEFAULTS, **options})
    return [str(error) for error in conflicts(args, config(**settings or {}), several=several)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_that_live_with_a_failed_rollout(estimator: str) -> None:
    assert said({"advantage_estimator": estimator}) == []


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "reinforce++": (
        {"advantage_estimator": "reinforce_plus_plus"},
        {},
        ["--advantage-estimator reinforce_plus_plus", "grpo, gspo, cispo, reinforce_plus_plus_baseline or ppo"],
    ),
    "whitening where all may fail": (
        {"normalize_advantages": True},
        {"max_failure_share": 1.0},
        ["--normalize-advantages with max_failure_share = 1:", "set max_failure_share to 0.9 or less"],
    ),
    "slime's own distillation": (
        {"custom_reward_post_process_path": TEACHER},
        {},
        [f"--custom-reward-post-process-path {TEACHER}", "slime_search.hooks.distillation.normalize_rewards"],
    ),
    "categories of a number": (
        {"log_reward_category": "kind"},
        {},
        ["--log-reward-category kind", "set --reward-key too"],
    ),
    "a nucleus that nobody tells": (
        {"rollout_top_p": 0.9},
        WITHOUT,
        ["--rollout-top-p 0.9 with return_logprob = False", "set return_logprob to True"],
    ),
    "nobody's log-probabilities": (ONE_STEP, WITHOUT, ["return_logprob = False with one training step a rollout"]),
    **{
        name: ({name: True}, WITHOUT, [f"--{name.replace('_', '-')} with return_logprob = False"])
        for name in ("use_tis", "get_mismatch_metrics", "use_rollout_logprobs", "use_rollout_routing_replay")
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_option_value_and_what_else_to_take(case: str) -> None:
    options, settings, told = REFUSED[case]
    (message,) = said(options, settings)
    assert all(words in message for words in told), message
    args = SimpleNamespace(**{**DEFAULTS, **options})
    with pytest.raises(ConfigError) as caught:
        check_options(args, config(**settings))
    assert caught.value.fix
    args.debug_rollout_only = True
    check_options(args, config(**settings))


FINE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the run scripts": (ONE_STEP, {}),
    "two steps": ({**ONE_STEP, "global_batch_size": 4}, WITHOUT),
    "gspo": ({**ONE_STEP, "advantage_estimator": "gspo"}, WITHOUT),
    "a critic": ({**ONE_STEP, "advantage_estimator": "ppo"}, WITHOUT),
    "a KL term in the reward": ({**ONE_STEP, "kl_coef": 0.1}, WITHOUT),
    "an older actor": ({**ONE_STEP, "keep_old_actor": True}, WITHOUT),
    "a nucleus": ({"rollout_top_p": 0.9}, {}),
    "whitening": ({"normalize_advantages": True}, {"max_failure_share": 0.99}),
    "one's own advantages": (
        {"advantage_estimator": "reinforce_plus_plus", "custom_advantage_function_path": "mine.advantages"},
        {},
    ),
    "categories of a dict": ({"log_reward_category": "kind", "reward_key": "score"}, {}),
    "options for single samples": ({"partial_rollout": True, "group_rm": True, "log_passrate": True}, {}),
}


@pytest.mark.parametrize("case", FINE)
def test_what_slime_lives_with_is_not_refused(case: str) -> None:
    assert said(*FINE[case]) == []


@pytest.mark.parametrize("name", ["partial_rollout", "group_rm", "log_passrate"])
def test_what_takes_a_sample_for_a_rollout_is_refused_where_a_rollout_is_several(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    (message,) = said({name: True}, several="It is two.")
    assert message.startswith(flag) and "It is two." in message
    with pytest.raises(ConfigError, match=flag):
        check_several(SimpleNamespace(**{name: True}), "It is two.")


def test_slimes_filters_are_refused_where_a_rollout_is_several() -> None:
    (message,) = said({"dynamic_sampling_filter_path": FILTERS}, several="It is two.")
    assert FILTERS in message and "slime_search.hooks.filters.keep_varied" in message
    assert said({"dynamic_sampling_filter_path": "slime_search.hooks.filters.keep_varied"}, several="It is two.") == []
    assert said({"dynamic_sampling_filter_path": FILTERS}) == []


def test_nothing_is_asked_of_an_engine_before_the_refusal(qwen: Any, qwen_folder: Path) -> None:
    with (
        ScriptedEngine(qwen, lambda context: think_answer("name-7")) as engine,
        ScriptedRetriever(passage) as retriever,
    ):
        args = arguments(engine, qwen_folder, advantage_estimator="reinforce_plus_plus")
        with pytest.raises(ConfigError, match="--advantage-estimator reinforce_plus_plus"):
            generate(recipe(retriever), args, [new_sample()])
        assert engine.exchanges == []
