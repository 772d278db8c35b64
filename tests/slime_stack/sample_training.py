"""Samples, as our rollouts leave them, through slime's own conversion, advantages and loss to a gradient, on a CPU."""

from argparse import Namespace
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from slime_search.core.engine import Completion, Finish
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.samples import write_back
from tests.slime_stack.red_training import Policies, arguments

PROMPT = [1, 2, 3]
POLICIES = Policies(seed=1)
STEP: dict[str, Any] = {
    "loss_type": "policy_loss",
    "reward_key": None,
    "rewards_normalization": True,
    "grpo_std_normalization": True,
    "gamma": 1.0,
    "lambd": 1.0,
    "opsm_delta": 1e-4,
    "tis_clip": 2.0,
    "tis_clip_low": 0.0,
    "custom_tis_function_path": None,
}


def step_arguments(**changes: Any) -> Namespace:
    """slime's arguments of a step over three rollouts."""
    return arguments(**{**STEP, "global_batch_size": 3, **changes})


def written(
    args: Any,
    index: int,
    token_ids: Sequence[int],
    reward: float = 0.0,
    *,
    ending: Ending = Ending.ANSWERED,
    meta_info: dict[str, Any] | None = None,
    with_log_probs: bool = True,
) -> Any:
    """slime's sample of a rollout whose one turn is ``token_ids``, which may be none."""
    from slime.utils.types import Sample

    sample = Sample(index=index, group_index=0)
    trajectory = Trajectory(PROMPT)
    if token_ids:
        log_probs = [-1.0] * len(token_ids) if with_log_probs else None
        trajectory.add_completion(Completion(list(token_ids), log_probs, Finish.STOP, meta_info or {}), "said")
    trajectory.end(ending)
    write_back(args, sample, trajectory, known_segments=0, with_log_probs=with_log_probs)
    if sample.reward is None:
        sample.reward = reward
    return sample


def converted(args: Any, samples: list[Any], post_process: Any = normalize_rewards) -> dict[str, Any]:
    """What slime makes of them for its trainer: the columns of one rank that has them all."""
    from slime.observability.rollout_data_utils import tensorize_rollout_data_for_training
    from slime.ray.rollout import RolloutManager

    slime = RolloutManager.__ray_metadata__.modified_class
    manager = SimpleNamespace(
        args=args, custom_reward_post_process_func=post_process, custom_convert_samples_to_train_data_func=None
    )
    manager._post_process_rewards = lambda samples: slime._post_process_rewards(manager, samples)
    data: dict[str, Any] = slime._convert_samples_to_train_data(manager, samples)
    tensorize_rollout_data_for_training(data)
    data["total_lengths"] = [len(tokens) for tokens in data["tokens"]]
    return data


def prepared(args: Any, samples: list[Any], *, reuses_log_probs: bool = False) -> dict[str, Any]:
    """The columns of a step once slime has worked out log-probabilities and advantages.

    Args:
        reuses_log_probs: whether the trainer leaves out the forward of its own log-probabilities, as slime's does.
    """
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns, get_rollout_top_p_logprob_kwargs

    data = converted(args, samples)
    data |= POLICIES.scores(args, data, **get_rollout_top_p_logprob_kwargs(args, data))
    if reuses_log_probs:
        del data["log_probs"]
    if args.advantage_estimator == "ppo":
        data["values"] = [torch.zeros_like(row) for row in data["ref_log_probs"]]
    compute_advantages_and_returns(args, data)
    return data


def trained(
    args: Any, samples: list[Any], keys: list[str], *, reuses_log_probs: bool = False
) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient of one step over ``samples``, a micro-batch each, and slime's metrics.

    Args:
        keys: the columns that slime's training step asks for.
    """
    from slime.backends.megatron_utils.data import DataIterator
    from slime.backends.megatron_utils.loss import loss_function
    from slime.observability.train_metric_utils import reduce_train_step_metrics

    data = prepared(args, samples, reuses_log_probs=reuses_log_probs)
    if args.rollout_top_p != 1.0:
        keys = [*keys, "rollout_top_p_token_ids", "rollout_top_p_token_offsets"]
    parameter = POLICIES.now.clone().requires_grad_()
    iterator, logs, normalisers = DataIterator(data, [[row] for row in range(len(samples))]), [], []
    for _ in samples:
        batch = iterator.get_next(keys)
        batch["unconcat_tokens"] = batch["tokens"]
        logits = parameter[torch.cat(batch["tokens"])][None]
        loss, normaliser, log = loss_function(args, batch, len(samples), args.global_batch_size, logits)
        # Megatron divides by the number of micro-batches, or by that of tokens, once all have been added up.
        (loss if args.calculate_per_token_loss else loss / len(samples)).backward()
        logs.append(log)
        normalisers.append(normaliser)
    metrics: dict[str, float] = reduce_train_step_metrics(
        logs,
        calculate_per_token_loss=args.calculate_per_token_loss,
        step_global_batch_size=args.global_batch_size,
        cp_size=1,
        dp_with_cp_group=None,
    )
    assert parameter.grad is not None
    return parameter.grad / (sum(normalisers) if args.calculate_per_token_loss else 1), metrics


def listening(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """All that slime hands to its trackers from now on."""
    from slime.observability import logging_utils

    logged: dict[str, float] = {}
    monkeypatch.setattr(logging_utils, "log", lambda args, metrics, step_key: logged.update(metrics))
    return logged
