"""slime's metrics that our documents name are those that slime logs, and failed rollouts do to them what they say."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from slime_search.core.trajectory import Ending
from slime_search.reference.metrics import SLIMES
from tests.slime_stack.sample_training import listening, prepared, step_arguments, trained, written
from tests.slime_stack.test_conversion import FLAGS, QUESTIONS, manager
from tests.slime_stack.world import World

EVERYTHING = {"use_tis": True, "use_opsm": True, "use_opd": True, "opd_type": "sglang", "opd_kl_coef": 0.1}


def batch(args: Any, failed: int = 1) -> list[Any]:
    """A right rollout, a wrong one, and so many that the engine failed before their first token."""
    samples = [written(args, 0, [4, 5, 6], 1.0), written(args, 1, [7, 8])]
    samples += [written(args, 2 + n, [], ending=Ending.FAILED) for n in range(failed)]
    for sample in samples:
        sample.teacher_log_probs = [-0.5] * sample.response_length
    return samples


def of_the_step(slime_home: Path) -> set[str]:
    """Names that slime's training loop writes out beside those of the loss."""
    source = ast.parse((slime_home / "slime/backends/megatron_utils/model.py").read_text())
    texts = (ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.JoinedStr))
    return {found[1] for text in texts if (found := re.fullmatch(r"f'train/\{role_tag\}(\w+)'", text))}


def of_a_batch(args: Any, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What slime's trainer logs of a batch."""
    from slime.observability import train_metric_utils

    logged = listening(monkeypatch)
    for name in ("ci_test", "log_multi_turn", "log_passrate", "log_correct_samples", "wandb_always_use_train_step"):
        setattr(args, name, False)
    train_metric_utils.log_rollout_data(0, args, {**data, "global_batch_sizes": [len(data["tokens"])]})
    return logged


def test_the_trainers_names(slime_home: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    args: Any = step_arguments(**EVERYTHING)
    _, metrics = trained(args, batch(args), keys)
    of_training = {f"train/{name}" for name in (*metrics, *of_the_step(slime_home))}
    data = prepared(args, batch(args)) | {"values": [torch.zeros(n) for n in (3, 2, 1)]}
    known = of_training | set(of_a_batch(args, data, monkeypatch))
    ours = {name for name, metric in SLIMES.items() if not metric.place.endswith("rollout_metrics.py")}
    assert {name for name in ours if name not in known} == set()
    assert "train/opd_reverse_kl" not in known and "rollout/opd_reverse_kl" in ours


def test_the_rollouts_names(world: World, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = world.data_set(QUESTIONS)
    held_out = f"--eval-interval 1 --eval-prompt-data held-out {data} --eval-max-response-len 120"
    args = world.args(f"{FLAGS} --prompt-data {data} {held_out}")
    world.start(args)
    made, logged = manager(args), listening(monkeypatch)
    made.generate(0)
    made.eval(0)
    known = {re.sub(r"count_[\d.]+", "count_<reward>", name) for name in logged}
    known = {name.replace("eval/held-out", "eval/<data set>") for name in known}
    ours = {name for name, metric in SLIMES.items() if metric.place.endswith("rollout_metrics.py")}
    assert ours - known == set()


@pytest.mark.parametrize("failed", [1, 2, 6])
def test_failed_rollouts_shrink_means_and_gradient_by_their_share(
    failed: int, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: Any = step_arguments(global_batch_size=2, rollout_batch_size=2)
    together: Any = step_arguments(global_batch_size=2 + failed, rollout_batch_size=2 + failed)
    gradient, metrics = trained(alone, batch(alone, 0), keys)
    smaller, less = trained(together, batch(together, failed), keys)
    share = 2 / (2 + failed)
    torch.testing.assert_close(smaller, gradient * share)
    assert len(metrics) > 5 and any(metrics.values())
    assert less == pytest.approx({name: value * share for name, value in metrics.items()}, abs=1e-6)
    of_all = of_a_batch(together, prepared(together, batch(together, failed)), monkeypatch)
    of_two = of_a_batch(alone, prepared(alone, batch(alone, 0)), monkeypatch)
    for name in ("rollout/raw_reward", "rollout/log_probs", "rollout/ref_log_probs"):
        assert of_all[name] == pytest.approx(of_two[name] * share), name


@pytest.mark.parametrize("failed", [1, 6])
def test_with_a_loss_a_token_each_counts_as_one_token(failed: int, keys: list[str]) -> None:
    alone: Any = step_arguments(global_batch_size=2, calculate_per_token_loss=True)
    together: Any = step_arguments(global_batch_size=2 + failed, calculate_per_token_loss=True)
    gradient, metrics = trained(alone, batch(alone, 0), keys)
    smaller, less = trained(together, batch(together, failed), keys)
    share = 5 / (5 + failed)
    torch.testing.assert_close(smaller, gradient * share)
    assert less == pytest.approx({name: value * share for name, value in metrics.items()}, abs=1e-6)


def test_a_step_a_rollout_tells_no_distance_from_the_old_policy(keys: list[str]) -> None:
    args: Any = step_arguments()
    _, metrics = trained(args, batch(args), keys, reuses_log_probs=True)
    assert metrics["ppo_kl"] == metrics["pg_clipfrac"] == 0
    _, metrics = trained(args, batch(args), keys)
    assert metrics["ppo_kl"] != 0
