"""A bigram policy trained by slime's own loss, and the same loss written out as a formula."""

import ast
import copy
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slime_search.hooks.red import weights
from slime_search.hooks.red.config import HOOKS
from slime_search.hooks.red.rollout import SOURCE

VOCABULARY = 13
KL, ENTROPY, CLIP = 0.1, 0.01, 0.2
GROWTH = 5.0


@dataclass(frozen=True)
class Row:
    """A sample of ``length`` tokens, the last ``response`` of which follow the prompt; ``masked`` are not trained."""

    rollout_id: int
    length: int
    response: int
    reward: float = 0.0
    masked: tuple[int, ...] = ()
    sft: bool = False


ROWS = (
    Row(0, 9, 5, reward=1.2, masked=(2,)),
    Row(1, 7, 3, reward=-0.7),
    Row(1, 12, 8, reward=-0.7, masked=(0, 1)),
    Row(2, 5, 2, reward=0.0, masked=(0, 1)),  # a rollout that a service failed
    Row(3, 8, 6, reward=0.4),
    Row(-1, 10, 7, sft=True, masked=(3, 4)),
    Row(-1, 6, 2, sft=True),
    Row(-1, 9, 1, sft=True),
)
ACCURACY = 0.3


def arguments(**changes: Any) -> Namespace:
    fixed = {
        "loss_type": "custom_loss",
        "custom_loss_function_path": HOOKS["custom_loss_function_path"],
        "advantage_estimator": "grpo",
        "rollout_temperature": 1.0,
        "rollout_top_p": 1.0,
        "log_probs_chunk_size": -1,
        "eps_clip": CLIP,
        "eps_clip_high": CLIP,
        "eps_clip_c": None,
        "entropy_coef": ENTROPY,
        "use_kl_loss": True,
        "kl_loss_coef": KL,
        "kl_loss_type": "k2",
        "kl_coef": 0.0,
        "custom_advantage_function_path": None,
        "global_batch_size": 5,
        "red": {"sft_data": "unused.parquet", "growth": GROWTH},
    }
    off = "allgather_cp use_rollout_logprobs use_opsm get_mismatch_metrics use_tis use_unbiased_kl normalize_advantages"
    off += " calculate_per_token_loss recompute_loss_function use_opd"
    return Namespace(**{**fixed, **dict.fromkeys(off.split(), False), **changes})


@dataclass
class Policies:
    """Bigram logits: of the policy that is trained, of the one that sampled, and of the reference."""

    seed: int
    now: Tensor = field(init=False)
    old: Tensor = field(init=False)
    reference: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.now, self.reference = (torch.randn(VOCABULARY, VOCABULARY, generator=generator) for _ in range(2))
        self.old = self.now + 0.15 * torch.randn(VOCABULARY, VOCABULARY, generator=generator)

    def scores(self, args: Namespace, data: dict[str, Any], **options: Any) -> dict[str, list[Tensor]]:
        """slime's columns of log-probabilities by the old policy, and as ``ref_`` by the reference.

        ``options`` go to slime's function.
        """
        from slime.backends.megatron_utils.loss import get_log_probs_and_entropy

        columns: dict[str, list[Tensor]] = {}
        for prefix, policy in (("", self.old), ("ref_", self.reference)):
            _, computed = get_log_probs_and_entropy(
                policy[torch.cat(data["tokens"])][None],
                args=args,
                unconcat_tokens=data["tokens"],
                total_lengths=data["total_lengths"],
                response_lengths=data["response_lengths"],
                **options,
            )
            columns |= {f"{prefix}{name}": [value.detach() for value in column] for name, column in computed.items()}
        return columns


def tokens_of(rows: tuple[Row, ...], seed: int) -> list[Tensor]:
    """Of each row the same, whichever rows stand beside it."""
    seeds = (seed * 1000 + 10 * row.length + row.response for row in rows)
    generators = (torch.Generator().manual_seed(number) for number in seeds)
    return [torch.randint(VOCABULARY, (row.length,), generator=g) for row, g in zip(rows, generators, strict=True)]


def mask_of(row: Row) -> Tensor:
    return torch.tensor([int(place not in row.masked) for place in range(row.response)])


def rank_data(
    args: Namespace, rows: tuple[Row, ...], chosen: list[int], policies: Policies, seed: int
) -> dict[str, Any]:
    """What slime has of the chosen rows before the post-process hook, computed by slime."""
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns

    totals: dict[int, int] = {}
    for row in rows:
        totals[row.rollout_id] = totals.get(row.rollout_id, 0) + int(mask_of(row).sum())
    tokens = tokens_of(rows, seed)
    mine = [rows[n] for n in chosen]
    data: dict[str, Any] = {
        "tokens": [tokens[n] for n in chosen],
        "total_lengths": [row.length for row in mine],
        "response_lengths": [row.response for row in mine],
        "loss_masks": [mask_of(row) for row in mine],
        "rewards": [row.reward for row in mine],
        "local_raw_reward": [ACCURACY if row.sft else row.reward for row in mine],
        "source_names": [SOURCE if row.sft else "unknown" for row in mine],
        "rollout_mask_sums": torch.tensor([float(totals[row.rollout_id]) for row in mine]),
    }
    data |= policies.scores(args, data, with_entropy=True)
    compute_advantages_and_returns(args, data)
    return data


def train_keys(slime_home: Path) -> list[str]:
    """The columns that slime's training step asks for, read from its source."""
    module = ast.parse((slime_home / "slime/backends/megatron_utils/model.py").read_text())
    lists = [node for node in ast.walk(module) if isinstance(node, ast.List)]
    named = [[e.value for e in node.elts if isinstance(e, ast.Constant)] for node in lists]
    return next(keys for keys in named if "rollout_mask_sums" in keys)


def gradient(
    args: Namespace, data: dict[str, Any], micro_batches: list[list[int]], policies: Policies, keys: list[str]
) -> tuple[Tensor, dict[str, float]]:
    """One rank's gradient by slime's ``loss_function``, added up as Megatron does, and its share of the metrics."""
    from slime.backends.megatron_utils.data import DataIterator
    from slime.backends.megatron_utils.loss import loss_function

    parameter = policies.now.clone().requires_grad_()
    iterator = DataIterator(data, micro_batches)
    metrics: dict[str, float] = {}
    for _ in micro_batches:
        batch = iterator.get_next(keys)
        batch["unconcat_tokens"] = batch["tokens"]
        logits = parameter[torch.cat(batch["tokens"])][None]
        loss, _, log = loss_function(args, batch, len(micro_batches), args.global_batch_size, logits)
        (loss / len(micro_batches)).backward()
        for name, value in zip(log["keys"], log["values"][1:].tolist(), strict=True):
            metrics[name] = metrics.get(name, 0.0) + value / args.global_batch_size
    assert parameter.grad is not None
    return parameter.grad, metrics


def policy_only(args: Namespace) -> Namespace:
    changed = copy.copy(args)
    changed.loss_type = "policy_loss"
    return changed


def reference_gradient(rows: tuple[Row, ...], policies: Policies, seed: int, weight: float, *, shift: bool) -> Tensor:
    """RL + weight·SFT from their formulas, in float64, by autograd."""
    parameter = policies.now.double().requires_grad_()
    now, old, ref = (p.log_softmax(-1) for p in (parameter, policies.old.double(), policies.reference.double()))
    rollouts: dict[int, list[tuple[Tensor, Tensor]]] = {}
    sft: list[Tensor] = []
    for row, tokens in zip(rows, tokens_of(rows, seed), strict=True):
        before, after = tokens[-row.response - 1 : -1], tokens[-row.response :]
        log_probs, olds, refs = (table[before, after] for table in (now, old, ref))
        mask = mask_of(row).bool()
        if row.sft:
            off = olds.exp() + (1 - olds.exp()) * ACCURACY
            sft.append((-log_probs.exp() / off if shift else -log_probs)[mask])
            continue
        ratio = (log_probs - olds).exp()
        surrogate = -torch.minimum(ratio * row.reward, ratio.clamp(1 - CLIP, 1 + CLIP) * row.reward)
        entropy = -(now[before].exp() * now[before]).sum(-1)
        per_token = surrogate - ENTROPY * entropy + KL * (log_probs - refs) ** 2 / 2
        rollouts.setdefault(row.rollout_id, []).append((per_token[mask].sum(), mask.sum()))
    sums = [[torch.stack(column).sum() for column in zip(*parts, strict=True)] for parts in rollouts.values()]
    means = [total / count.clamp_min(1) for total, count in sums]
    loss = torch.stack(means).mean() if means else torch.zeros(())
    if sft:
        loss = loss + weight * torch.cat(sft).mean()
    loss.backward()
    assert parameter.grad is not None
    return parameter.grad


def mean_entropy(rows: tuple[Row, ...], policy: Tensor, seed: int, *, sft: bool) -> float:
    table = policy.double().log_softmax(-1)
    found = []
    for row, tokens in zip(rows, tokens_of(rows, seed), strict=True):
        if row.sft is sft:
            before = tokens[-row.response - 1 : -1][mask_of(row).bool()]
            found.append(-(table[before].exp() * table[before]).sum(-1))
    return float(torch.cat(found).mean())


def forget() -> None:
    weights._before = None
