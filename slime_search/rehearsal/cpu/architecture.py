"""Megatron asks which generation of GPUs it is on, to choose among fused kernels."""

from typing import Any

HOPPER = 9


def complete(utils: Any) -> None:
    """``utils`` is ``megatron.training.utils``. The answer is that of an H100; no kernel is chosen by it here."""
    utils.get_device_arch_version = lambda: HOPPER
