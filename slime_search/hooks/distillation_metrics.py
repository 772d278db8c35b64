"""How far the student is from its teacher, for slime's log."""

import math
from collections.abc import Sequence
from typing import Any

from slime_search.hooks.distillation import DISTILLATION_KEY
from slime_search.hooks.samples import RECORD_KEY

PREFIX = "distill/"


def distillation_metrics(samples: Sequence[Any]) -> dict[str, float]:
    """Metrics of the samples that a teacher was asked about; none where there are no such samples.

    ``aligned`` is the share of trained tokens of which the teacher says something, ``kl`` the mean over those of
    ``log p_student - log q_teacher`` before clipping, in nats, which estimates the divergence of the student from the
    teacher. ``failures`` is the share of samples that the teacher failed, ``remembered`` that of the teacher's tokens
    whose scores were known before.
    """
    told = [
        sample.metadata[RECORD_KEY][DISTILLATION_KEY]
        for sample in samples
        if DISTILLATION_KEY in ((sample.metadata or {}).get(RECORD_KEY) or {})
    ]
    if not told:
        return {}
    answered = [one for one in told if one["error"] is None]
    tokens, aligned, asked = (sum(one[key] for one in answered) for key in ("tokens", "aligned", "asked"))
    metrics = {"failures": 1 - len(answered) / len(told)}
    if tokens:
        metrics["aligned"] = aligned / tokens
    if aligned:
        metrics["kl"] = math.fsum(one["gap"] for one in answered) / aligned
    if asked:
        metrics["remembered"] = sum(one["remembered"] for one in answered) / asked
    return {f"{PREFIX}{name}": value for name, value in metrics.items()}
