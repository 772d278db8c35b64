"""``--custom-loss-function-path``: slime's policy loss of the rollouts plus that of the demonstrations."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from slime_search.hooks.contract import Args
from slime_search.hooks.red.config import red_config

Reduce = Callable[[Tensor], Tensor]
"""From a value a token to the sum over rollouts of their means over tokens."""


def red_loss(
    args: Args, batch: Mapping[str, Any], logits: Tensor, sum_of_sample_mean: Reduce
) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro-batch's share of RL + λ·SFT, with λ from ``red.weights``.

    SFT is the sum over the step's demonstration tokens divided by their number: −log π, or −π/π_off with the policy
    shift (Guan et al., arXiv 2508.16677). slime's policy loss sees the demonstrations masked, KL and entropy included.

    Args:
        logits: ``[1, T, V]``, float32.

    Returns:
        The loss, and slime's metrics of it with ``sft_loss`` (nats a token, unweighted) and ``red_weight`` (λ) added.
    """
    from slime.backends.megatron_utils.loss import policy_loss_function

    is_sft = _marked(batch["values"])
    factor = _factor_of_rollouts(batch["returns"], is_sft)
    if any(is_sft):
        rollouts, reduce_rollouts = _only(args, batch, [not sft for sft in is_sft])
        _, reduce_sft = _only(args, batch, is_sft)
        loss, log = policy_loss_function(args, rollouts, logits, reduce_rollouts)
        sft, sft_log = _sft_terms(args, batch, logits, reduce_sft)
    else:
        loss, log = policy_loss_function(args, batch, logits, sum_of_sample_mean)
        sft = torch.zeros((), device=logits.device)
        sft_log = {"sft_loss": sft, "red_weight": sft}
    loss = loss * factor + sft
    scaled = {name: value * factor for name, value in log.items()}
    return loss, {**scaled, "loss": loss.detach().clone(), **sft_log}


def _sft_terms(
    args: Args, batch: Mapping[str, Any], logits: Tensor, reduce: Reduce
) -> tuple[Tensor, dict[str, Tensor]]:
    from slime.backends.megatron_utils.loss import get_log_probs_and_entropy

    _, computed = get_log_probs_and_entropy(
        logits,
        args=args,
        unconcat_tokens=batch["unconcat_tokens"],
        total_lengths=batch["total_lengths"],
        response_lengths=batch["response_lengths"],
    )
    log_probs = torch.cat(computed["log_probs"])
    off_policy, factor = torch.cat(batch["values"]), torch.cat(batch["returns"])
    if red_config(args).policy_shift:
        # In the rows that are masked there is no π_off.
        per_token = -(log_probs - torch.where(off_policy > 0, off_policy, 1.0).log()).exp()
    else:
        per_token = -log_probs
    total = args.global_batch_size
    log = {"sft_loss": reduce(-log_probs) * total, "red_weight": reduce(factor)}
    return reduce(per_token * factor), {name: value.detach() for name, value in log.items()}


def _only(args: Args, batch: Mapping[str, Any], chosen: list[bool]) -> tuple[dict[str, Any], Reduce]:
    """The batch with all other rows masked, and slime's reducer for it; denominators stay those of whole rollouts."""
    from slime.backends.megatron_utils.cp_utils import get_sum_of_sample_mean

    masks = [mask * int(mine) for mask, mine in zip(batch["loss_masks"], chosen, strict=True)]
    reduce = get_sum_of_sample_mean(
        batch["total_lengths"],
        batch["response_lengths"],
        masks,
        batch["rollout_mask_sums"],
        args.calculate_per_token_loss,
    )
    return {**batch, "loss_masks": masks}, reduce


def _marked(values: list[Tensor]) -> list[bool]:
    """Which rows are demonstrations. One whose tokens all lie on other context-parallel ranks does not matter here."""
    marks: list[bool] = torch.stack([(value > 0).any() for value in values]).tolist()
    return marks


def _factor_of_rollouts(returns: list[Tensor], is_sft: list[bool]) -> float:
    """What all rollouts of the step have in ``returns``; 1 where none has a token here."""
    found = (row for row, sft in zip(returns, is_sft, strict=True) if not sft and row.numel())
    return float(next(found, torch.ones(1))[0])
