"""A stand-in for Megatron on a CPU, whose only parallelism is over data, as torch.distributed has it."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist


def _data_parallel_size(with_context_parallel: bool = False) -> int:
    return dist.get_world_size()


MPU: dict[str, Any] = {
    "get_context_parallel_world_size": lambda: 1,
    "get_context_parallel_rank": lambda: 0,
    "get_context_parallel_group": lambda: None,
    "get_tensor_model_parallel_world_size": lambda: 1,
    "get_tensor_model_parallel_rank": lambda: 0,
    "get_data_parallel_world_size": _data_parallel_size,
    "get_data_parallel_group": lambda with_context_parallel=False: None,
    "get_data_parallel_group_gloo": lambda with_context_parallel=False: None,
    "get_data_parallel_src_rank": lambda with_context_parallel=False: 0,
    "get_virtual_pipeline_model_parallel_world_size": lambda: None,
    "is_pipeline_last_stage": lambda *args, **kwargs: True,
}
MODULES: dict[str, dict[str, Any]] = {
    "megatron": {},
    "megatron.core": {},
    "megatron.core.mpu": MPU,
    "megatron.core.packed_seq_params": {"PackedSeqParams": object},
}


@contextmanager
def megatron_installed() -> Iterator[None]:
    """Puts the stand-ins in place, on all ranks; afterwards they and what of slime has imported them are forgotten."""
    alone = [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]
    for name, content in MODULES.items():
        module = types.ModuleType(name)
        module.__path__ = []
        module.__dict__.update(content)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    sys.modules["megatron.core.mpu"].get_tensor_model_parallel_group = lambda: alone  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n in MODULES or n.startswith("slime.backends.megatron_utils")]:
            del sys.modules[name]
