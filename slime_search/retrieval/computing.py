"""How many workers and threads a server computes with."""

import ctypes
import importlib.util
import os
from dataclasses import replace
from typing import NamedTuple

from slime_search.retrieval.choices import RetrieverName
from slime_search.retrieval.collection import RetrieverSettings
from slime_search.retrieval.errors import SetupError

_MODULES = ("torch", "faiss", "sentence_transformers", "joblib")
_WORKERS_OF_A_GPU = 2
"""One encodes while the other searches."""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 256 << 20


class Computing(NamedTuple):
    settings: RetrieverSettings
    workers: int


def plan(settings: RetrieverSettings, threads: int, workers: int | None) -> Computing:
    """Settles what the command line leaves open, before torch and FAISS are imported, which read their threads then.

    Many workers of one thread each are faster than few of many: batches are independent, and OpenMP's threads wait for
    each other busily, which on cores that others use as well costs more than it gains.

    Raises:
        SetupError: what an encoder or a reranker needs is not installed.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Tokenizing is a small part, and its own pool of threads would compete with the workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if settings.name == RetrieverName.BM25 and settings.reranker is None:
        return Computing(settings, workers or 1)
    if missing := [name for name in _MODULES if importlib.util.find_spec(name) is None]:
        raise SetupError(
            f"{', '.join(missing)} not installed, and encoders need them: pip install 'slime-search[retrieval]'"
        )
    _keep_freed_memory()
    import torch
    from joblib import cpu_count

    if settings.device == "auto":
        settings = replace(settings, device="cuda" if torch.cuda.is_available() else "cpu")
    default = max(cpu_count() // threads, 1) if settings.device == "cpu" else _WORKERS_OF_A_GPU
    return Computing(settings, workers or default)


def _keep_freed_memory() -> None:
    """Has glibc keep what was freed: it gives large buffers back at once, and a forward pass makes hundreds."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD):
            mallopt(parameter, _KEPT_BYTES)
