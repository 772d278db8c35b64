"""Our real entry points, with what slime's contract tests leave out and every real rollout has.

The contract tests start no server, give their arguments few attributes and their samples no record of a rollout. This
module supplies those from the environment; what runs is the example's own ``generate`` and ``reward_func`` and our
reward post-process.
"""

import functools
import importlib
import os
from types import SimpleNamespace
from typing import Any

from slime_search.core.engine import Completion, Finish
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.hooks import groups
from slime_search.hooks.samples import RECORD_KEY, write_back

example = importlib.import_module(os.environ["CONTRACT_EXAMPLE"])
CHECKPOINT, ENGINE_PORT = os.environ["CONTRACT_CHECKPOINT"], int(os.environ["CONTRACT_ENGINE_PORT"])


def _complete(args: Any) -> Any:
    for name, value in {
        "hf_checkpoint": CHECKPOINT,
        "sglang_router_ip": "127.0.0.1",
        "sglang_router_port": ENGINE_PORT,
        "sglang_server_concurrency": 4,
        "custom_rm_path": f"{__name__}.reward_func",
        "reward_key": None,
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
    }.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    return args


@functools.wraps(example.generate)
async def generate(args: Any, sample: Any, sampling_params: dict[str, Any], **more: Any) -> Any:
    from slime.rollout import sglang_rollout
    from transformers import AutoTokenizer

    # The contract's own stand-in for GenerateState has no tokenizer.
    sglang_rollout.GenerateState.tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    sample.label = sample.label or "name-7"
    return await example.generate(_complete(args), sample, {"max_new_tokens": 200, **sampling_params}, **more)


@functools.wraps(example.reward_func)
async def reward_func(args: Any, sample: Any, **kwargs: Any) -> Any:
    if RECORD_KEY not in sample.metadata:
        _record(sample)
    return await example.reward_func(_complete(args), sample, **kwargs)


def _record(sample: Any) -> None:
    """What our generate function would have left for a response without any action."""
    trajectory = Trajectory(sample.tokens[: -sample.response_length])
    ids = sample.tokens[-sample.response_length :]
    trajectory.add_completion(Completion(ids, [0.0] * len(ids), Finish.STOP), sample.response)
    trajectory.end(Ending.OUT_OF_TURNS)
    write_back(SimpleNamespace(), sample, trajectory, known_segments=len(trajectory.segments))


@functools.wraps(groups.normalize_rewards)
def normalize_rewards(args: Any, samples: Any) -> Any:
    return groups.normalize_rewards(_complete(args), samples)
