"""What ``hooks/slime_options.py`` refuses really stops slime, and what it lets pass trains, failed rollouts and all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from slime_search.config import load_config
from slime_search.core.trajectory import Ending
from slime_search.hooks.slime_options import ESTIMATORS, conflicts
from tests.slime_stack.sample_training import step_arguments, trained, written


def batch(args: Any, *, all_fail: bool = False, with_log_probs: bool = True) -> list[Any]:
    """A right rollout, a wrong one, and one whose engine failed before its first token."""
    ending = Ending.FAILED if all_fail else Ending.ANSWERED
    return [
        written(args, 0, [4, 5, 6], 1.0, ending=ending, with_log_probs=with_log_probs),
        written(args, 1, [7, 8], 0.0, ending=ending, with_log_probs=with_log_probs),
        written(args, 2, [], ending=Ending.FAILED, with_log_probs=with_log_probs),
    ]


def refused(args: Any, **config: Any) -> list[str]:
    return [error.found for error in conflicts(args, load_config(config))]


MIS = {
    "use_tis": True,
    "custom_tis_function_path": "examples.train_infer_mismatch_helper.mis.compute_mis_weights_with_cp",
    "tis_mode": "mask",
    "tis_level": "token",
    "rs_level": "geometric",
    **{"use_rs": True, "tis_batch_normalize": True, "rs_veto_threshold": 1e-6},
    **{"tis_lower_bound": 1e-3, "tis_upper_bound": 1e3, "rs_lower_bound": None, "rs_upper_bound": None},
}
"""As the run scripts have it with USE_TIS=1, with everything on, and bounds that these policies keep."""
LIVES: dict[str, dict[str, Any]] = {
    **{name: {"advantage_estimator": name, "normalize_advantages": name.startswith("rein")} for name in ESTIMATORS},
    "a KL term in the reward": {"kl_coef": 0.1},
    "truncated importance sampling": {"use_tis": True},
    "icepop": {"use_tis": True, "custom_tis_function_path": "slime.backends.megatron_utils.loss.icepop_function"},
    "slime's MIS": MIS,
    "off-policy sequence masking": {"use_opsm": True},
    "a loss a token": {"calculate_per_token_loss": True},
    "the engine's log-probabilities": {"use_rollout_logprobs": True},
    "whitened advantages": {"normalize_advantages": True},
}


@pytest.mark.parametrize("case", LIVES)
def test_a_failed_rollout_trains_nothing_and_stops_nothing(keys: list[str], case: str) -> None:
    args = step_arguments(**LIVES[case])
    assert refused(args) == []
    samples = batch(args)
    found, metrics = trained(args, samples, keys)
    assert torch.isfinite(found).all() and found.abs().max() > 1e-4
    assert all(value == value for value in metrics.values())
    again = [*batch(args)[:2], written(args, 2, [9, 10, 11, 12], ending=Ending.FAILED)]
    other, _ = trained(args, again, keys)
    torch.testing.assert_close(other, found)


def test_reinforce_plus_plus_stops_at_a_failed_rollout(keys: list[str]) -> None:
    args = step_arguments(advantage_estimator="reinforce_plus_plus", normalize_advantages=True)
    (message,) = refused(args)
    assert "reinforce_plus_plus" in message
    with pytest.raises(AssertionError, match="fully masked"):
        trained(args, batch(args), keys)
    truncated = written(args, 2, [], ending=Ending.TRUNCATED)
    assert not truncated.remove_sample
    with pytest.raises(AssertionError, match="fully masked"):
        trained(args, [*batch(args)[:2], truncated], keys)


def test_slime_can_not_whiten_a_step_in_which_all_failed(keys: list[str]) -> None:
    args = step_arguments(normalize_advantages=True)
    assert refused(args, max_failure_share=1.0) and not refused(args)
    with pytest.raises(ValueError, match="mask sum"):
        trained(args, batch(args, all_fail=True), keys)
    plain = step_arguments()
    assert not refused(plain, max_failure_share=1.0)
    found, _ = trained(plain, batch(plain, all_fail=True), keys)
    assert found.abs().max() == 0


STOPS = {
    "truncated importance sampling": ({"use_tis": True}, False),
    "mismatch metrics": ({"get_mismatch_metrics": True}, False),
    "the engine's log-probabilities": ({"use_rollout_logprobs": True}, False),
    "one step a rollout": ({"rollout_batch_size": 3, "n_samples_per_prompt": 1}, True),
}


@pytest.mark.parametrize("case", STOPS)
def test_slime_stops_without_log_probabilities(keys: list[str], case: str) -> None:
    options, reuses = STOPS[case]
    args = step_arguments(**options)
    assert refused(args, return_logprob=False) and not refused(args)
    with pytest.raises(TypeError, match="NoneType"):
        trained(args, batch(args, with_log_probs=False), keys, reuses_log_probs=reuses)


def test_without_log_probabilities_several_steps_train(keys: list[str]) -> None:
    """Then the trainer computes those of the old policy itself."""
    args = step_arguments(rollout_batch_size=6, n_samples_per_prompt=1)
    assert not refused(args, return_logprob=False)
    found, _ = trained(args, batch(args, with_log_probs=False), keys)
    assert found.abs().max() > 1e-4


def test_when_slime_leaves_its_own_log_probabilities_out(slime_home: Path) -> None:
    """The condition is repeated in ``slime_options``; each of its terms stands in slime's source."""
    source = (slime_home / "slime/backends/megatron_utils/actor.py").read_text()
    condition = source[source.index("can_reuse_log_probs_in_loss = (") :].partition("\n                )")[0]
    terms = [line.strip().removeprefix("and ") for line in condition.splitlines()[1:]]
    assert terms == [
        "len(num_microbatches) == 1",
        'self.args.loss_type == "policy_loss"',
        "self.args.kl_coef == 0",
        "not self.args.use_rollout_logprobs",
        "not self.args.get_mismatch_metrics",
        "not self.args.use_critic",
        "not self.args.keep_old_actor",
        "not self.args.use_opd",
        "(not self.args.use_routing_replay or self.args.use_rollout_routing_replay)",
        'self.args.advantage_estimator != "gspo"',
    ]


def test_slimes_own_distillation_stops_at_a_failed_rollout(slime_home: Path) -> None:
    from slime.rollout.on_policy_distillation import post_process_rewards

    path = f"{post_process_rewards.__module__}.{post_process_rewards.__name__}"
    args = step_arguments(custom_reward_post_process_path=path)
    assert refused(args)
    answered = written(args, 0, [4, 5])
    answered.reward = {"meta_info": {"input_token_logprobs": [[None, 1], *[[-1.0, n] for n in range(4)]]}}
    assert post_process_rewards(args, [answered])[0] == [0.0]
    with pytest.raises(TypeError, match="float"):
        post_process_rewards(args, [answered, written(args, 1, [], ending=Ending.FAILED)])


def test_slime_counts_samples_for_a_pass_rate(slime_home: Path) -> None:
    from slime.observability.metric_utils import compute_pass_rate

    assert compute_pass_rate([1.0, 0.0], group_size=2, num_groups=1)
    with pytest.raises(AssertionError):
        compute_pass_rate([1.0, 1.0, 0.0], group_size=2, num_groups=1)


def test_slimes_filter_can_not_read_a_list(slime_home: Path) -> None:
    from slime.rollout.filter_hub import dynamic_sampling_filters as filters

    args: Any = step_arguments(dynamic_sampling_filter_path=f"{filters.__name__}.check_reward_nonzero_std")
    assert list(conflicts(args, load_config({}), several="It is a list."))
    with pytest.raises(AttributeError, match="get_reward_value"):
        filters.check_reward_nonzero_std(args, [batch(args), batch(args)])


@pytest.mark.parametrize("category", ["kind", "score"])
def test_slime_finds_a_category_in_every_reward(slime_home: Path, category: str) -> None:
    from slime.observability.rollout_metrics import _compute_reward_cat_metrics

    from slime_search.hooks.contract import reward_in_slimes_form

    args: Any = step_arguments(reward_key="score", log_reward_category=category)
    assert not refused(args)
    samples = batch(args)
    samples[0].reward = reward_in_slimes_form(args, 1.0, "answered")
    samples[1].reward = reward_in_slimes_form(args, 0.0, "answered")
    shares = {"kind": {"answered": 2 / 3, "removed": 1 / 3}, "score": {1.0: 1 / 3, 0.0: 2 / 3}}[category]
    assert _compute_reward_cat_metrics(args, samples) == pytest.approx(
        {f"error_cat/{name}": share for name, share in shares.items()}
    )
    assert [sample.get_reward_value(args) for sample in samples] == [1.0, 0.0, 0.0]
    bare: Any = step_arguments(log_reward_category="kind")
    assert refused(bare)
    with pytest.raises(TypeError, match="subscriptable"):
        _compute_reward_cat_metrics(bare, batch(bare))
