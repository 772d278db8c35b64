"""``--rollout-function-path`` of somebody's own, which passes on what slime called off before it began."""

from typing import Any


def generate_rollout(args: Any, rollout_id: int, data_source: Any, evaluation: bool = False) -> Any:
    """slime's rollout, with another group in the first one's place: slime was cancelled before it came to that."""
    from slime.rollout import sglang_rollout
    from slime.utils.async_utils import run

    output = sglang_rollout.generate_rollout(args, rollout_id, data_source, evaluation=evaluation)
    (group,) = data_source.get_samples(1)
    state = sglang_rollout.GenerateState(args)
    state.aborted = True
    output.samples[0] = run(sglang_rollout.generate_and_rm_group(args, group, state.sampling_params.copy()))
    state.reset()
    return output
