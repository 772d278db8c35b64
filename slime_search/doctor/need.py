"""What a run takes at least, computed from what is configured."""

from slime_search.doctor.corpus_rows import Rows

_BYTES_A_POSTING = 8
"""BM25 keeps a row's number and a score for each different word of a passage, four bytes each."""
_SAVED_BYTES = 14
"""A parameter in a checkpoint: bf16, and in fp32 the master copy and Adam's two moments."""


def training_bytes(parameters: int, *, gpus: int, tensor_parallel: int) -> int:
    """Weights in bf16, gradients in fp32 and Adam's state, on each GPU.

    6 + 12 / d bytes a parameter with d data-parallel ranks, divided among tensor-parallel ones (Megatron Core's
    documentation of the distributed optimizer, which slime sets). Activations come on top.
    """
    ranks = max(1, gpus // tensor_parallel)
    return round(parameters * (6 + 12 / ranks) / tensor_parallel)


def saved_bytes(parameters: int) -> int:
    """A checkpoint of Megatron's with the optimizer's state."""
    return parameters * _SAVED_BYTES


def bm25_bytes(rows: Rows) -> int:
    """BM25 over a corpus; building it takes more for a while."""
    return round(rows.total * rows.words * _BYTES_A_POSTING)
