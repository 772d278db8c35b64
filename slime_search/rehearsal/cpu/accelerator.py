"""A CPU for slime's registry of accelerators, chosen by ``SLIME_ACCELERATOR=cpu``."""

from typing import Any

FREE_BYTES, TOTAL_BYTES = 8 << 30, 16 << 30
"""What slime is told of memory; it logs this and decides nothing by it."""


class Cpu:
    """One device, whose work is done when a call returns. The methods are those of slime's ``Accelerator``."""

    name = device_type = "cpu"
    communication_backend_name = "gloo"

    def is_available(self) -> bool:
        return True

    def device(self, index: Any = None) -> Any:
        import torch

        return torch.device("cpu")

    def device_name(self, index: Any = None) -> str:
        return "cpu"

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, index: Any) -> None:
        pass

    def synchronize(self, device: Any = None) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def current_stream(self, device: Any = None) -> None:
        return None

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return FREE_BYTES, TOTAL_BYTES

    def memory_allocated(self, device: Any = None) -> int:
        return 0

    def memory_reserved(self, device: Any = None) -> int:
        return 0


def complete(accelerator: Any) -> None:
    """``accelerator`` is ``slime.utils.accelerator``; its own base class fills in what is optional."""
    registered = type("RegisteredCpu", (Cpu, accelerator.Accelerator), {})
    accelerator.register_accelerator(
        Cpu.name, registered, lambda: True, priority=1000, communication_backends=(Cpu.communication_backend_name,)
    )
