"""``--dynamic-sampling-filter-path``: groups that teach nothing are sampled again (DAPO, arXiv 2503.14476)."""

from collections.abc import Sequence
from typing import Any

from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import Args
from slime_search.hooks.samples import flattened, rollouts_of

TOLERANCE = 1e-6


def keep_varied(args: Args, group: Sequence[Any], **kwargs: Any) -> Any:
    """Keeps a group whose rollouts earned different rewards.

    slime's own filter reads one reward a sample. Here a rollout that became several samples counts once, and one that a
    service failed not at all.

    Returns:
        slime's ``DynamicFilterOutput``, whose reason becomes a metric.
    """
    from slime.rollout.filter_hub.base_types import DynamicFilterOutput

    samples = flattened(group)
    complete(args, samples)
    rollouts = rollouts_of([sample for sample in samples if not sample.remove_sample])
    rewards = [float(rollout[0].get_reward_value(args)) for rollout in rollouts]
    if not rewards:
        return DynamicFilterOutput(keep=False, reason="no_live_rollout")
    if max(rewards) - min(rewards) > TOLERANCE:
        return DynamicFilterOutput(keep=True)
    return DynamicFilterOutput(keep=False, reason=f"all_{rewards[0]:.1f}")
