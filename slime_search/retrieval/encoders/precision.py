"""Which number format an encoder and a search compute in."""

import time

import torch

from slime_search.retrieval.choices import Precision

_SIZE = 512
_REPEATS = 5


_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def dtype_for(precision: Precision, device: str) -> torch.dtype:
    """The type to compute in: fp16 on a GPU; on a CPU bf16 where that is measured to be faster than fp32."""
    if precision != Precision.AUTO:
        return _DTYPES[precision]
    if not device.startswith("cpu"):
        return torch.float16
    return torch.bfloat16 if _matmul_s(torch.bfloat16) < _matmul_s(torch.float32) else torch.float32


def _matmul_s(dtype: torch.dtype) -> float:
    """The best time of several for one product of two square matrices. It differs by factors, not by per cents."""
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    with torch.inference_mode():
        for _ in range(_REPEATS):
            start = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - start)
    return min(times)
