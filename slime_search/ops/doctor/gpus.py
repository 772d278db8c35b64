"""The GPUs that the driver tells of."""

import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

_TIMEOUT_S = 60
_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]


class Gpu(NamedTuple):
    name: str
    total: int
    """Bytes."""
    free: int


def visible_gpus() -> Sequence[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES leaves; none where there is no driver, or it finds none."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    gpus = parse(done.stdout) if done.returncode == 0 else ()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return gpus if listed is None else chosen(gpus, listed)


def chosen(gpus: Sequence[Gpu], listed: str) -> Sequence[Gpu]:
    """Those that a value of CUDA_VISIBLE_DEVICES names. CUDA stops at the first one that is not there."""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not all(name.isdigit() for name in names):
        # Names of devices, or -1 for none.
        return gpus[: 0 if "-1" in names else len(names)]
    found = []
    for name in names:
        if int(name) >= len(gpus):
            break
        found.append(gpus[int(name)])
    return found


def parse(listing: str) -> Sequence[Gpu]:
    """One GPU a line: name, MiB in all, MiB free."""
    rows = [[part.strip() for part in line.rsplit(",", 2)] for line in listing.splitlines() if line.strip()]
    numbered = [row for row in rows if len(row) == 3 and row[1].isdigit() and row[2].isdigit()]
    return [Gpu(name, int(total) << 20, int(free) << 20) for name, total, free in numbered]
