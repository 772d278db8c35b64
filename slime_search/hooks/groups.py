"""``--custom-reward-post-process-path``: advantages within each prompt's group, failures left out."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

from slime_search.errors import DataError
from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.samples import rollouts_of

STD_EPSILON = 1e-6
_WITH_MEAN = ("grpo", "gspo", "cispo", "reinforce_plus_plus_baseline")
_WITH_STD = ("grpo", "gspo", "cispo")


def normalize_rewards(args: Args, samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """GRPO's group normalisation (Shao et al., arXiv 2402.03300, eq. 3) over the rollouts that carry a signal.

    Follows slime's ``advantage_estimator``, ``rewards_normalization`` and ``grpo_std_normalization``, but groups by
    ``group_index`` and not by position, and leaves removed samples out of mean and standard deviation. A rollout that
    became several samples of one reward (``rollout_id``) counts once. A sample that was called off before it began is
    completed, and removed.

    Returns:
        Raw rewards and normalised rewards, each one float a sample. A removed sample's normalised reward is 0.0, and so
        is that of a rollout alone in its group.

    Raises:
        DataError: a reward is NaN or inf.
    """
    complete(args, samples)
    raw = [float(sample.get_reward_value(args)) for sample in samples]
    for sample, reward in zip(samples, raw, strict=True):
        if not math.isfinite(reward):
            raise DataError(f"sample {sample.index}: its reward is {reward}", "have the reward function give a number")
    if args.advantage_estimator not in _WITH_MEAN or not args.rewards_normalization:
        return raw, [0.0 if s.remove_sample else reward for s, reward in zip(samples, raw, strict=True)]
    groups: dict[int | None, list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        if not sample.remove_sample:
            groups[sample.group_index].append(position)
    with_std = args.advantage_estimator in _WITH_STD and args.grpo_std_normalization
    normalized = [0.0] * len(samples)
    for positions in groups.values():
        rollouts = rollouts_of([samples[p] for p in positions])
        rewards = [float(rollout[0].get_reward_value(args)) for rollout in rollouts]
        mean = statistics.fmean(rewards)
        scale = statistics.stdev(rewards) + STD_EPSILON if with_std and len(rewards) > 1 else 1.0
        for p in positions:
            normalized[p] = (raw[p] - mean) / scale
    return raw, normalized
