"""Samples that were called off before the generate function saw them.

slime cancels a rollout by a flag, and a sample that has not begun by then comes back as its data set made it: no
tokens, no log-probabilities, no reward. slime's own rollout drops such samples or keeps them for later; one of
somebody's own may pass them on, and slime's metrics and conversion stop at them.
"""

from collections.abc import Sequence

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.runtime import runtime
from slime_search.hooks.samples import take_out, write_back


def complete(args: Args, samples: Sequence[Sample]) -> None:
    """Makes each sample without a reward an aborted rollout without a token, which trains nothing and can be resumed.

    Every hook that sees a batch calls it first. It has log-probabilities where the others do.
    """
    without = [sample for sample in samples if sample.reward is None]
    if not without:
        return
    rewarded = [sample for sample in samples if sample.reward is not None]
    with_log_probs = not rewarded or any(sample.rollout_log_probs is not None for sample in rewarded)
    for sample in without:
        if sample.response_length:
            take_out(args, sample)
            continue
        # A prompt of no tokens at all can't be asked, and still has to stand before the placeholder.
        trajectory = Trajectory(sample.tokens or TokenCodec(runtime(args).tokenizer).prompt(sample.prompt) or [0])
        trajectory.end(Ending.ABORTED)
        write_back(args, sample, trajectory, known_segments=0, with_log_probs=with_log_probs)
