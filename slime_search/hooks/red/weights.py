"""``--rollout-data-postprocess-path``: tells the loss which rows are demonstrations and how much they weigh.

slime's loss gets a fixed set of columns. Two of them are those of a critic, which RED has none of, and carry what it
needs, a value a token: ``values`` is 0 in a rollout, and in a demonstration π_off, the probability against which the
policy shift measures, or 1; ``returns`` is the factor of the row in the step's sum.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from slime_search.hooks.contract import Args
from slime_search.hooks.red.config import RedConfig, red_config
from slime_search.hooks.red.rollout import SOURCE


class Entropies(NamedTuple):
    """Mean entropy a trained token, in nats, of demonstrations and of rollouts."""

    sft: float
    rl: float


def sft_weight(
    now: Entropies | None, before: Entropies | None, accuracy: float | None, *, growth: float, scale: float
) -> float:
    """``scale`` times clamp(w·c, 1, G²), with G = ``growth``.

    w = clip(|1 − H_sft(t)/H_sft(t−1)| / |1 − H_rl(t)/H_rl(t−1)|, 1, G) (Guan et al., arXiv 2508.16677), and 1 where one
    of the entropies is not known, as in the first step; c = G^(1 − 2·accuracy), and 1 without an accuracy.
    """
    w = 1.0 if now is None or before is None else _relative_change(now, before, growth)
    c = 1.0 if accuracy is None else growth ** (1 - 2 * accuracy)
    return scale * min(max(w * c, 1.0), growth**2)


def _relative_change(now: Entropies, before: Entropies, growth: float) -> float:
    if before.sft <= 0 or before.rl <= 0:
        return 1.0
    of_sft, of_rl = abs(1 - now.sft / before.sft), abs(1 - now.rl / before.rl)
    # A ratio beyond the clip is not divided out, so that an entropy that stands still is no division by zero.
    if of_sft >= growth * of_rl:
        return growth if of_sft else 1.0
    return max(of_sft / of_rl, 1.0)


_before: Entropies | None = None
"""Of this process's last batch. After a restart the first step knows none, and its w is 1."""


class _Batch(NamedTuple):
    """What the ranks know together."""

    entropies: Entropies | None
    accuracy: float | None
    """None where there are no demonstrations."""


def weigh(args: Args, rollout_id: int, rollout_data: dict[str, Any]) -> None:
    """Sets ``values`` and ``returns``, and adds ``red/…`` to what slime logs of the batch."""
    global _before
    if "advantages" not in rollout_data:
        return  # not the last pipeline stage
    config = red_config(args)
    is_sft = [name == SOURCE for name in rollout_data["source_names"]]
    batch = _gather(rollout_data, is_sft, with_entropy=config.entropy_regulation)
    if batch.accuracy is None:
        _fill(rollout_data, is_sft, rl_factor=1.0, sft_factor=0.0, off_policy=0.0, shift=False)
        return
    weight = sft_weight(
        batch.entropies,
        _before,
        batch.accuracy if config.accuracy_aware else None,
        growth=config.growth,
        scale=config.weight,
    )
    _before = batch.entropies
    # slime divides the step's sum by all its rollouts, of which one is the demonstrations.
    total = args.global_batch_size
    _fill(
        rollout_data,
        is_sft,
        rl_factor=total / (total - 1),
        sft_factor=total * weight,
        off_policy=batch.accuracy,
        shift=config.policy_shift,
    )
    _report(rollout_data, batch, weight, config)


def _gather(rollout_data: dict[str, Any], is_sft: list[bool], *, with_entropy: bool) -> _Batch:
    """Means over all data-parallel and context-parallel ranks."""
    import torch.distributed as dist
    from megatron.core import mpu  # type: ignore[import-not-found]

    rewards = [float(reward) for reward, sft in zip(rollout_data["local_raw_reward"], is_sft, strict=True) if sft]
    device = rollout_data["advantages"][0].device
    sums = torch.tensor([sum(rewards), len(rewards), 0.0, 0.0, 0.0, 0.0], dtype=torch.float64, device=device)
    if with_entropy:
        sums[2:4] = _masked_sums(rollout_data, is_sft)
        sums[4:6] = _masked_sums(rollout_data, [not sft for sft in is_sft])
    dist.all_reduce(sums, group=mpu.get_data_parallel_group(with_context_parallel=True))
    reward, rows, sft, sft_tokens, rl, rl_tokens = sums.tolist()
    known = sft_tokens > 0 and rl_tokens > 0
    return _Batch(Entropies(sft / sft_tokens, rl / rl_tokens) if known else None, reward / rows if rows else None)


def _masked_sums(rollout_data: dict[str, Any], chosen: list[bool]) -> Tensor:
    """The entropy of the chosen rows' trained tokens and the number of these tokens, on this rank."""
    from slime.backends.megatron_utils.cp_utils import get_sum_of_sample_mean

    masks = [mask * int(mine) for mask, mine in zip(rollout_data["loss_masks"], chosen, strict=True)]
    sum_of_tokens = get_sum_of_sample_mean(
        rollout_data["total_lengths"], rollout_data["response_lengths"], masks, calculate_per_token_loss=True
    )
    entropy = torch.cat(rollout_data["entropy"]).double()
    return torch.stack([sum_of_tokens(entropy), sum_of_tokens(torch.ones_like(entropy))])


def _fill(
    rollout_data: dict[str, Any],
    is_sft: list[bool],
    *,
    rl_factor: float,
    sft_factor: float,
    off_policy: float,
    shift: bool,
) -> None:
    values, returns = [], []
    for row, sft in enumerate(is_sft):
        factor = torch.full_like(rollout_data["advantages"][row], sft_factor if sft else rl_factor)
        returns.append(factor)
        if not sft:
            values.append(torch.zeros_like(factor))
            continue
        values.append(_off_policy(rollout_data["log_probs"][row], off_policy) if shift else torch.ones_like(factor))
    rollout_data["values"], rollout_data["returns"] = values, returns


def _off_policy(log_probs: Tensor, accuracy: float) -> Tensor:
    """π_off = π + (1 − π)·accuracy, of the policy before this batch; never 0, which marks rollouts."""
    policy = log_probs.exp()
    return (policy + (1 - policy) * accuracy).clamp_min(torch.finfo(policy.dtype).tiny)


def _report(rollout_data: dict[str, Any], batch: _Batch, weight: float, config: RedConfig) -> None:
    metrics = {"weight": weight, "accuracy": batch.accuracy}
    if batch.entropies is not None:
        metrics |= {"entropy_sft": batch.entropies.sft, "entropy_rl": batch.entropies.rl}
    for name, value in metrics.items():
        rollout_data[f"red/{name}"] = torch.tensor([value])
