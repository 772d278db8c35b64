"""How many workers and threads a server computes with."""

import os
from typing import NamedTuple

from slime_search.retrieval.collection import RetrieverName

_WORKERS_OF_A_GPU = 2
"""One encodes while the other searches."""


class Computing(NamedTuple):
    device: str
    workers: int


def plan(name: RetrieverName, device: str, threads: int, workers: int | None) -> Computing:
    """Settles what the command line leaves open, before torch and FAISS are imported, which read their threads then.

    Many workers of one thread each are faster than few of many: batches are independent, and OpenMP's threads wait for
    each other busily, which on cores that others use as well costs more than it gains.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Tokenizing is a small part, and its own pool of threads would compete with the workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if name == RetrieverName.BM25:
        return Computing("cpu" if device == "auto" else device, workers or 1)
    import torch
    from joblib import cpu_count

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    default = max(cpu_count() // threads, 1) if device == "cpu" else _WORKERS_OF_A_GPU
    return Computing(device, workers or default)
