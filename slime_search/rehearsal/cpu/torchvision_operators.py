"""Lets torchvision be imported beside a torch for CPUs.

torchvision's own library of operators is linked against CUDA and can't be loaded then, and its Python code registers
something for two of them. SGLang imports torchvision and calls neither.
"""

from typing import Any

_OPERATORS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",)
_QUANTIZED = tuple(f"q{operator}" for operator in _OPERATORS)
_libraries: list[Any] = []
"""An operator is there as long as the library that declares it."""


def complete(torch: Any) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in (*_OPERATORS, *_QUANTIZED):
        library.define(operator)
    _libraries.append(library)
