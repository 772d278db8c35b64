"""RED through slime's own loss: the gradient is that of the formula, however the batch is cut up."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from slime_search.hooks.red.weights import Entropies, sft_weight, weigh
from tests.slime_stack.megatron_standin import megatron_installed
from tests.slime_stack.red_training import (
    ACCURACY,
    GROWTH,
    ROWS,
    Policies,
    arguments,
    forget,
    gradient,
    mean_entropy,
    policy_only,
    rank_data,
    reference_gradient,
    train_keys,
)

CUTS = {
    "one micro-batch": [list(range(8))],
    "a micro-batch a sample": [[n] for n in range(8)],
    "demonstrations apart and mixed": [[0, 5], [1, 2, 6], [3, 4], [7]],
}


@pytest.fixture
def megatron(slime_home: Path, tmp_path: Path) -> Iterator[list[str]]:
    """slime's loss on one rank; yields the columns that its training step asks for."""
    forget()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    with megatron_installed(), torch._dynamo.config.patch(disable=True):
        yield train_keys(slime_home)
    dist.destroy_process_group()
    forget()


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-4, atol=1e-6)


def first_weight(**settings: Any) -> float:
    return sft_weight(None, None, ACCURACY, growth=GROWTH, scale=settings.get("weight", 1.0))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("shift", [False, True])
def test_the_gradient_is_the_formulas(megatron: list[str], cut: str, shift: bool) -> None:
    args = arguments()
    args.red |= {"policy_shift": shift, "weight": 0.7}
    policies = Policies(seed=1)
    data = rank_data(args, ROWS, list(range(8)), policies, seed=1)
    weigh(args, 0, data)
    found, metrics = gradient(args, data, CUTS[cut], policies, megatron)
    weight = first_weight(weight=0.7)
    close(found, reference_gradient(ROWS, policies, 1, weight, shift=shift))
    assert metrics["red_weight"] == pytest.approx(weight, rel=1e-5)


def test_what_is_reported_is_what_it_says(megatron: list[str]) -> None:
    """The rollouts' metrics are those of a run without demonstrations, and ``sft_loss`` is their mean a token."""
    args, policies = arguments(), Policies(seed=2)
    data = rank_data(args, ROWS, list(range(8)), policies, seed=2)
    weigh(args, 0, data)
    _, metrics = gradient(args, data, CUTS["demonstrations apart and mixed"], policies, megatron)
    alone = tuple(row for row in ROWS if not row.sft)
    plain = policy_only(arguments(global_batch_size=4))
    _, wanted = gradient(
        plain, rank_data(plain, alone, list(range(5)), policies, 2), [[0, 1], [2, 3, 4]], policies, megatron
    )
    for name in ("pg_loss", "entropy_loss", "pg_clipfrac", "ppo_kl", "kl_loss"):
        assert metrics[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-7), name
    assert metrics["loss"] == pytest.approx(wanted["loss"] + metrics["red_weight"] * metrics["sft_loss"], rel=1e-4)


@pytest.mark.parametrize("estimator", ["grpo", "gspo", "cispo"])
def test_without_demonstrations_it_is_slimes_loss(megatron: list[str], estimator: str) -> None:
    args = arguments(advantage_estimator=estimator, global_batch_size=4)
    policies, alone = Policies(seed=3), tuple(row for row in ROWS if not row.sft)
    data = rank_data(args, alone, list(range(5)), policies, seed=3)
    wanted, told = gradient(policy_only(args), data, [[0, 1], [2, 3, 4]], policies, megatron)
    weigh(args, 0, data)
    found, metrics = gradient(args, data, [[0, 1], [2, 3, 4]], policies, megatron)
    assert torch.equal(found, wanted)
    assert {name: metrics[name] for name in told} == told


@pytest.mark.parametrize("estimator", ["gspo", "cispo"])
def test_demonstrations_leave_the_rollouts_terms_alone(megatron: list[str], estimator: str) -> None:
    """The gradients of rollouts and of demonstrations add up, whatever the estimator."""
    args, policies = arguments(advantage_estimator=estimator), Policies(seed=4)
    data = rank_data(args, ROWS, list(range(8)), policies, seed=4)
    weigh(args, 0, data)
    found, _ = gradient(args, data, CUTS["demonstrations apart and mixed"], policies, megatron)
    alone = tuple(row for row in ROWS if not row.sft)
    plain = policy_only(arguments(advantage_estimator=estimator, global_batch_size=4))
    rl, _ = gradient(
        plain, rank_data(plain, alone, list(range(5)), policies, 4), [[0, 1], [2, 3, 4]], policies, megatron
    )
    sft = reference_gradient(tuple(row for row in ROWS if row.sft), policies, 4, first_weight(), shift=False)
    close(found, rl + sft)


def test_truncated_importance_sampling_goes_together_with_it(megatron: list[str]) -> None:
    """slime then rebuilds its reducer from the masks that it was given."""
    settings = {"use_tis": True, "custom_tis_function_path": None, "tis_clip": 2.0, "tis_clip_low": 0.0}
    args, policies = arguments(**settings), Policies(seed=5)
    data = rank_data(args, ROWS, list(range(8)), policies, seed=5)
    # What the engine said is what the trainer computes, and of demonstrations it said nothing.
    names = zip(data["log_probs"], data["source_names"], strict=True)
    data["rollout_log_probs"] = [torch.zeros_like(x) if name != "unknown" else x.clone() for x, name in names]
    weigh(args, 0, data)
    found, _ = gradient(args, data, CUTS["demonstrations apart and mixed"], policies, megatron)
    close(found, reference_gradient(ROWS, policies, 5, first_weight(), shift=False))


def test_the_weight_follows_the_entropies(megatron: list[str]) -> None:
    args = arguments()
    args.red |= {"accuracy_aware": False}
    seen = []
    for step in range(3):
        policies = Policies(seed=10 + step)
        data = rank_data(args, ROWS, list(range(8)), policies, seed=step)
        weigh(args, step, data)
        seen.append(Entropies(*(mean_entropy(ROWS, policies.old, step, sft=sft) for sft in (True, False))))
        before = seen[-2] if step else None
        wanted = sft_weight(seen[-1], before, None, growth=GROWTH, scale=1.0)
        assert data["red/weight"].item() == pytest.approx(wanted, rel=1e-4)
        assert data["red/entropy_sft"].item() == pytest.approx(seen[-1].sft, rel=1e-4)
        assert data["red/entropy_rl"].item() == pytest.approx(seen[-1].rl, rel=1e-4)


RANKS = [[0, 3, 6, 5], [1, 2, 4, 7]]


def _rank(rank: int, folder: str, keys: list[str]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store2", rank=rank, world_size=2)
    with megatron_installed(), torch._dynamo.config.patch(disable=True):
        args, policies = arguments(), Policies(seed=6)
        data = rank_data(args, ROWS, RANKS[rank], policies, seed=6)
        weigh(args, 0, data)
        found, metrics = gradient(args, data, [[0, 1], [2, 3]], policies, keys)
        dist.all_reduce(found)
        torch.save((found / 2, metrics), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_data_parallel_ranks_have_the_formulas_gradient_together(slime_home: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_rank, args=(rank, str(tmp_path), train_keys(slime_home))) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    (first, told), (second, also_told) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    close(first, reference_gradient(ROWS, Policies(seed=6), 6, first_weight(), shift=False))
    assert told["red_weight"] + also_told["red_weight"] == pytest.approx(first_weight(), rel=1e-5)
