"""``torch.cuda`` as a machine with one device would answer it, where that device is the CPU.

Megatron calls ``torch.cuda`` directly in many places: it asks for the device, moves tensors there, waits for streams.
Here questions get an answer, tensors stay where they are, and waiting is over at once. What is computed is computed by
torch's own CPU code; no arithmetic is replaced.
"""

import functools
import re
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from slime_search.rehearsal.cpu import torchvision_operators
from slime_search.rehearsal.cpu.accelerator import FREE_BYTES, TOTAL_BYTES
from slime_search.rehearsal.cpu.architecture import HOPPER

_COMMANDS = (
    "synchronize empty_cache ipc_collect set_device init _lazy_init reset_peak_memory_stats manual_seed_all".split()
)
_AMOUNTS = "memory_allocated memory_reserved max_memory_allocated max_memory_reserved".split()
_MAKERS = (
    "tensor as_tensor zeros ones empty full arange rand randn randint randperm linspace eye tril triu empty_strided "
    "zeros_like ones_like empty_like full_like rand_like randn_like"
).split()
_MAKERS_OF_TENSORS = "new_zeros new_ones new_empty new_full new_tensor".split()
_CUDA = re.compile(r"cuda(:\d+)?")


class Stream:
    """A queue of work that is always empty. Its methods do nothing."""

    cuda_stream = 0
    device = None

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_error: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


class Event(Stream):
    """A mark in such a queue, which has always been reached."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, _end: Any) -> float:
        return 0.0


def complete(torch: Any) -> None:
    import torch._dynamo  # keeps a list of torch's functions, and must see them as they are

    torchvision_operators.complete(torch)
    _answer_questions(torch.cuda)
    _end_waiting(torch.cuda)
    _draw_from_the_cpu(torch)
    _keep_tensors_in_place(torch)
    _make_tensors_on_the_cpu(torch)
    _without_device_ids(torch.distributed)


def _nothing(*_arguments: Any, **_options: Any) -> None:
    pass


def _answering(value: Any) -> Callable[..., Any]:
    return lambda *_arguments, **_options: value


def _answer_questions(cuda: Any) -> None:
    for name in _COMMANDS:
        setattr(cuda, name, _nothing)
    for name in _AMOUNTS:
        setattr(cuda, name, _answering(0))
    cuda.current_device = _answering(0)
    cuda.device_count = _answering(1)
    cuda.is_initialized = _answering(True)
    cuda.get_device_name = _answering("CPU")
    cuda.get_device_capability = _answering((HOPPER, 0))
    cuda.mem_get_info = _answering((FREE_BYTES, TOTAL_BYTES))
    cuda.memory_stats = _answering({})
    cuda.get_device_properties = _answering(
        SimpleNamespace(
            name="CPU", total_memory=TOTAL_BYTES, major=HOPPER, minor=0, multi_processor_count=1, warp_size=32
        )
    )


def _end_waiting(cuda: Any) -> None:
    cuda.Stream, cuda.Event = Stream, Event
    cuda.current_stream = cuda.default_stream = _answering(Stream())
    cuda.stream = lambda _stream: nullcontext()
    cuda.nvtx = SimpleNamespace(range_push=_nothing, range_pop=_nothing, range=lambda *_a, **_o: nullcontext())


def _draw_from_the_cpu(torch: Any) -> None:
    cuda = torch.cuda
    cuda.get_rng_state = cuda.random.get_rng_state = lambda *_arguments: torch.get_rng_state()
    cuda.set_rng_state = cuda.random.set_rng_state = lambda state, *_arguments: torch.set_rng_state(state)
    cuda.initial_seed = torch.initial_seed
    cuda.default_generators = (torch.default_generator,)
    # torch.manual_seed calls that of CUDA, so this one must not call it back.
    cuda.manual_seed = lambda seed: torch.default_generator.manual_seed(seed)


def _keep_tensors_in_place(torch: Any) -> None:
    stay = lambda self, *_arguments, **_options: self  # noqa: E731
    torch.Tensor.cuda = torch.Tensor.pin_memory = torch.nn.Module.cuda = stay
    to, type_of = torch.Tensor.to, torch.Tensor.type

    @functools.wraps(to)
    def moved(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and not isinstance(arguments[0], bool):
            arguments = (_on_cpu(torch, arguments[0]), *arguments[1:])
        return to(self, *arguments, **_redirected(torch, options))

    @functools.wraps(type_of)
    def named(self: Any, dtype: Any = None, **options: Any) -> Any:
        """Megatron compares the names of types, and expects those of CUDA's."""
        if dtype is None:
            return type_of(self).replace("torch.", "torch.cuda.", 1)
        if isinstance(dtype, str):
            dtype = dtype.replace("torch.cuda.", "torch.", 1)
        return type_of(self, dtype, **options)

    torch.Tensor.to, torch.Tensor.type = moved, named


def _make_tensors_on_the_cpu(torch: Any) -> None:
    for owner, names in ((torch, _MAKERS), (torch.Tensor, _MAKERS_OF_TENSORS)):
        for name in names:
            setattr(owner, name, _making(torch, getattr(owner, name)))


def _making(torch: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        return make(*arguments, **_redirected(torch, options))

    return made


def _redirected(torch: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a call with the CPU in place of a GPU, and without pinned memory, which is for copies to GPUs."""
    if "device" in options:
        options["device"] = _on_cpu(torch, options["device"])
    if options.get("pin_memory"):
        options["pin_memory"] = False
    return options


def _on_cpu(torch: Any, where: Any) -> Any:
    """The CPU for a GPU's name, number or device; anything else, such as a type or a tensor, as it is."""
    is_number = isinstance(where, int) and not isinstance(where, bool)
    is_gpu = isinstance(where, str) and _CUDA.fullmatch(where) is not None
    if is_number or is_gpu or (isinstance(where, torch.device) and where.type == "cuda"):
        return torch.device("cpu")
    return where


def _without_device_ids(distributed: Any) -> None:
    """gloo takes no device ids."""
    barrier = distributed.barrier

    @functools.wraps(barrier)
    def without(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Any:
        return barrier(group=group, async_op=async_op)

    distributed.barrier = without
