"""slime's on-policy distillation (``--use-opd``) beside the task reward: log-probabilities, rewards, exact zeros.

slime adds ``-c · (log p_student - log q_teacher)`` to the advantage of each token (``--opd-kl-coef``), and takes
``sample.teacher_log_probs`` of all samples or of none. A token that the teacher says nothing of therefore gets the
policy's own log-probability, which makes its term zero.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.groups import normalize_rewards as normalize_task_rewards
from slime_search.hooks.samples import RECORD_KEY

DISTILLATION_KEY = "distillation"
"""Set in the record of each sample that a teacher was asked about."""


def normalize_rewards(args: Args, samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """``--custom-reward-post-process-path``: the task's rewards, normalised in their groups, beside the teacher's term.

    slime's own post-process for distillation puts 0 in their place.

    Returns:
        Raw and normalised rewards, one float a sample.

    Raises:
        DataError: a sample has no log-probabilities of its own to put where the teacher says nothing.
    """
    _complete(args, samples)
    return normalize_task_rewards(args, samples)


def no_task_reward(args: Args, samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """``--custom-reward-post-process-path`` of pure distillation: the teacher's term alone moves the policy.

    Returns:
        Raw rewards, which are logged, and zeros.
    """
    _complete(args, samples)
    raw, _ = normalize_task_rewards(args, samples)
    return raw, [0.0] * len(samples)


def forget_unscored(args: Args, rollout_id: int, rollout_data: dict[str, Any]) -> None:
    """``--rollout-data-postprocess-path``: where the teacher says nothing, its term becomes exactly zero.

    slime subtracts from the log-probabilities that the trainer computed, which differ a little from the engine's that
    stand in for the teacher's. Without this hook that difference, times ``--opd-kl-coef``, remains. With
    ``--use-rollout-logprobs`` there is none.

    Raises:
        ConfigError: --normalize-advantages has mixed the terms already.
    """
    reverse_kls = rollout_data.get("opd_reverse_kl")
    if reverse_kls is None:
        return
    if args.normalize_advantages:
        raise ConfigError("--normalize-advantages: the teacher's term can't be told from the rest then; leave it out")
    advantages = rollout_data["advantages"]
    pairs = zip(rollout_data["teacher_log_probs"], rollout_data["rollout_log_probs"], strict=True)
    for row, (teacher, own) in enumerate(pairs):
        forgotten = reverse_kls[row] * (teacher == own)
        advantages[row] = advantages[row] + args.opd_kl_coef * forgotten
        reverse_kls[row] = reverse_kls[row] - forgotten


def write_teacher_scores(
    sample: Sample,
    log_probs: Sequence[float | None],
    *,
    clip: float | None = None,
    disagreements: int = 0,
    asked: int = 0,
    remembered: int = 0,
    decode: Callable[[int], str] = str,
) -> None:
    """Sets ``sample.teacher_log_probs``, and notes in the sample's record how far student and teacher agree.

    Args:
        log_probs: the teacher's, one value (nats) for each response token; None where it has none for a token.
        clip: nats by which student and teacher may differ at a token.
        disagreements: how many tokens to note, those at which the two differ most.
        asked: tokens of the teacher's that the log-probabilities were made of, ``remembered`` of which were cached.
        decode: from a token id to its text, for reading.
    """
    own = _own(sample)
    scored = [
        (position, mine, theirs)
        for position, (mine, theirs, trains) in enumerate(zip(own, log_probs, sample.loss_mask or (), strict=True))
        # slime may have masked what an older policy wrote, before an interruption.
        if theirs is not None and trains
    ]
    written = list(own)
    for position, mine, theirs in scored:
        gap = mine - theirs
        written[position] = theirs if clip is None or abs(gap) <= clip else mine - math.copysign(clip, gap)
    sample.teacher_log_probs = written
    first = len(sample.tokens) - len(own)
    worst = sorted(scored, key=lambda row: -abs(row[1] - row[2]))[:disagreements]
    _note(
        sample,
        tokens=sum(sample.loss_mask or ()),
        aligned=len(scored),
        gap=math.fsum(mine - theirs for _, mine, theirs in scored),
        asked=asked,
        remembered=remembered,
        error=None,
        disagreements=[
            {"place": position, "text": decode(sample.tokens[first + position]), "student": mine, "teacher": theirs}
            for position, mine, theirs in worst
        ],
    )


def leave_alone(sample: Sample) -> None:
    """Leaves the sample on its task reward alone."""
    sample.teacher_log_probs = list(_own(sample))


def write_teacher_failure(sample: Sample, error: str) -> None:
    """Leaves the sample on its task reward alone, and notes that the teacher failed it."""
    leave_alone(sample)
    nothing = {"aligned": 0, "gap": 0.0, "asked": 0, "remembered": 0, "disagreements": []}
    _note(sample, tokens=sum(sample.loss_mask or ()), error=error, **nothing)


def _note(sample: Sample, **what: object) -> None:
    sample.metadata[RECORD_KEY][DISTILLATION_KEY] = what


def _complete(args: Args, samples: Sequence[Sample]) -> None:
    """Every sample gets one finite value a response token, whatever became of it."""
    complete(args, samples)
    for sample in samples:
        log_probs = getattr(sample, "teacher_log_probs", None)
        if log_probs is None or len(log_probs) != sample.response_length or not all(map(math.isfinite, log_probs)):
            leave_alone(sample)


def _own(sample: Sample) -> list[float]:
    own = sample.rollout_log_probs or []
    if len(own) != sample.response_length:
        raise DataError(
            f"sample {sample.index}: {len(own)} rollout log-probabilities of {sample.response_length} response tokens; "
            "distillation needs them all: return_logprob = True"
        )
    return [float(value) for value in own]
