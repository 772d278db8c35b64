"""What slime's own evaluation logs with our hook in it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.test_metrics import sample


def test_search_metrics_of_an_evaluation_reach_what_slime_logs_to(
    slime_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout_metrics = pytest.importorskip("slime.observability.rollout_metrics")
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(rollout_metrics.logging_utils, "log", lambda args, metrics, step_key: logged.append(metrics))
    monkeypatch.setattr(rollout_metrics, "compute_metrics_from_samples", lambda args, samples: {"response_len/mean": 1})
    args = Namespace(
        custom_eval_rollout_log_function_path="slime_search.hooks.metrics.log_eval",
        log_passrate=False,
        wandb_always_use_train_step=False,
    )
    # As RolloutManager.eval does after slime's generate_rollout, whose output has no metrics.
    rollout_metrics.log_eval_rollout_data(3, args, {"nq": {"rewards": [1.0], "samples": [sample()]}}, None)
    (metrics,) = logged
    assert metrics["eval/nq"] == metrics["eval/nq/search/em"] == 1.0
    assert metrics["eval/nq/response_len/mean"] == 1 and metrics["eval/step"] == 3
