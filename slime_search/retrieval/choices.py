"""What may be chosen of a retriever by name. Nothing heavy is imported for it."""

import re
from enum import StrEnum

_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu)(:\d+)?")


class RetrieverName(StrEnum):
    """BM25, or a family of encoders (``encoders/encoder.py``)."""

    BM25 = "bm25"
    E5 = "e5"
    BGE = "bge"
    CONTRIEVER = "contriever"
    DPR = "dpr"
    AUTO = "auto"


class Precision(StrEnum):
    """Formats of floating-point numbers; ``AUTO`` is the fastest one that keeps the results."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def is_device(name: str) -> bool:
    """Whether torch could have such a device.

    >>> is_device("cuda:1"), is_device("gpu")
    (True, False)
    """
    return _DEVICE.fullmatch(name) is not None
