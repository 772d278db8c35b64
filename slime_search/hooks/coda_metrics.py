"""What planners and executors did, beside the metrics of every search agent."""

import statistics
from collections.abc import Sequence
from typing import Any

from slime_search.hooks.samples import RECORD_KEY, role_of, rollouts_of

EXECUTOR = "executor"
"""The role of executors, and the key of their number in the details of a planner's call."""


def coda_metrics(samples: Sequence[Any]) -> dict[str, float]:
    """Metrics of delegated tasks, empty where none of ``samples`` has a role.

    ``tasks`` and ``executor_tokens`` are counted a rollout, ``tasks_solved`` is the share of tasks that an executor
    answered. ``executors_well_formed`` and ``refined`` are PECO's parts. Failed and aborted rollouts do not count.
    """
    rollouts = [
        rollout
        for rollout in rollouts_of(samples)
        if role_of(rollout[-1]) and "score" in rollout[-1].metadata[RECORD_KEY] and not rollout[-1].remove_sample
    ]
    if not rollouts:
        return {}
    scores = [rollout[-1].metadata[RECORD_KEY]["score"] for rollout in rollouts]
    executors = [sample for rollout in rollouts for sample in rollout if role_of(sample) == EXECUTOR]
    metrics = {
        "tasks": len(executors) / len(rollouts),
        "executor_tokens": sum(sample.response_length for sample in executors) / len(rollouts),
        "executors_well_formed": statistics.fmean(score["executors_well_formed"] for score in scores),
        "refined": statistics.fmean(score["refined"] for score in scores),
    }
    if executors:
        answered = (sample.metadata[RECORD_KEY]["ending"] == "answered" for sample in executors)
        metrics["tasks_solved"] = statistics.fmean(answered)
    return metrics
