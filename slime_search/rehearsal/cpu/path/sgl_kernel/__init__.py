"""Stands in for SGLang's GPU kernels: any name can be imported from here, and none can be called."""

from collections.abc import Callable
from typing import Any, NoReturn

__version__ = "0.4.10"


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)

    def kernel(*_arguments: Any, **_options: Any) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name}: needs a GPU; serve with --attention-backend torch_native")

    return kernel
