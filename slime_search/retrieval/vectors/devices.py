"""Where vectors are scanned."""

import torch

from slime_search.retrieval.vectors.errors import VectorIndexError


def devices_of(device: str) -> list[str]:
    """Torch's names: for ``cuda`` all visible GPUs. Raises VectorIndexError where there is none."""
    if device == "cpu":
        return ["cpu"]
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise VectorIndexError(f"device {device!r} is not here; choose cpu, or cuda on a machine with NVIDIA GPUs")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device == "cuda" else [device]
