"""GPUs, memory, disk and ports against what the run takes."""

import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from rich.filesize import decimal

from slime_search.errors import ConfigError
from slime_search.ops.doctor.index import Rows, count_rows, index_facts
from slime_search.ops.doctor.results import GPU, Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.ops.launch.ray_job import check_address
from slime_search.retrieval.errors import SetupError
from slime_search.transport.readiness import ask

_BYTES_A_POSTING = 8
"""BM25 keeps a row's number and a score for each different word of a passage, four bytes each."""
_SAVED_BYTES = 14
"""A parameter in a checkpoint: bf16, and in fp32 the master copy and Adam's two moments."""
_SHARED_LEAST = 1 << 30
"""Bytes of /dev/shm."""
_DASHBOARD = 8265
_ROOM = 1.5
"""Activations, the logits of a micro-batch and fragmentation: below this share above the state it gets tight."""


def gpus(setup: Setup) -> Iterator[Result]:
    """There are as many GPUs as NUM_GPUS says, and TP divides them."""
    found, wanted, parallel = setup.gpus, setup.run.num_gpus, setup.run.tp
    if not found:
        yield failed(GPU, "none (nvidia-smi finds no GPU)", "train on a machine with GPUs")
    elif len(found) < wanted:
        fix = f"export NUM_GPUS={len(found)}, or look at CUDA_VISIBLE_DEVICES"
        yield failed(GPU, f"{len(found)} × {found[0].name}, and NUM_GPUS is {wanted}", fix)
    elif wanted % parallel:
        yield failed(GPU, f"NUM_GPUS {wanted} is no multiple of TP {parallel}", "export TP= a divisor of NUM_GPUS")
    else:
        yield passed(GPU, f"{len(found)} × {found[0].name}, {wanted} of them used, TP {parallel}")


def gpu_memory(setup: Setup) -> Iterator[Result]:
    """The training's state fits into them, and nobody else is there."""
    if not setup.gpus:
        yield skipped("GPU memory", "no GPU")
        return
    used = setup.gpus[: setup.run.num_gpus]
    need = _training_need(setup)
    if "--faiss_gpu" in shlex.split(setup.launch.retriever_options) and setup.starts_retriever:
        need += _index_memory(setup) * 2 // len(setup.gpus)
    least, free = min(gpu.total for gpu in used), min(gpu.free for gpu in used)
    finding = (
        f"{decimal(least)} each; weights, gradients and Adam take {decimal(need)} "
        f"(6 + 12/{max(1, setup.run.num_gpus // setup.run.tp)} bytes a parameter / TP {setup.run.tp}), activations more"
    )
    if need > least:
        yield failed("GPU memory", finding, "raise NUM_GPUS and TP, or take a smaller model")
    elif need * _ROOM > least:
        yield warned("GPU memory", finding, "raise TP or NUM_GPUS, or lower MAX_TOKENS_PER_GPU if it runs out")
    elif free < least * 0.9:
        yield warned("GPU memory", f"{finding}; only {decimal(free)} are free", "end what runs there: nvidia-smi")
    else:
        yield passed("GPU memory", finding)


def ram(setup: Setup) -> Iterator[Result]:
    """The retrieval server, and what slime moves out of the GPUs, fit in RAM."""
    parts = {}
    if setup.starts_retriever:
        parts["the retrieval server"] = _index_memory(setup)
    if setup.gpus:
        # Engine and trainer take turns on the GPUs (--colocate): the trainer's state waits in RAM.
        parts["the trainer's state between turns"] = _training_need(setup) * setup.run.num_gpus
    there, free = _ram()
    need = sum(parts.values())
    finding = f"{decimal(free)} of {decimal(there)} free"
    if parts:
        shares = ", ".join(f"{what} {decimal(size)}" for what, size in parts.items())
        finding += f"; at least {decimal(need)} needed ({shares})"
    if need > there:
        yield failed(
            "RAM", finding, "build-index --kind rabitq makes a store of a seventh of the size; or take a larger machine"
        )
    elif need > free:
        yield warned("RAM", finding, "end what else runs here")
    else:
        yield passed("RAM", finding)
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None
    if shared is not None and shared < _SHARED_LEAST:
        finding = f"{shared / 2**20:.0f} MiB; NCCL and Ray exchange data there"
        yield warned("/dev/shm", finding, "docker run --shm-size=16g, or --ipc=host")


def disk(setup: Setup) -> Iterator[Result]:
    """The checkpoints fit on the disk of SAVE."""
    folder = setup.run.saved.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield failed("disk", f"SAVE: {existing} can't be written", "export SAVE=<a folder on a large disk>")
        return
    free = shutil.disk_usage(existing).free
    size, count = saved_bytes(setup.checkpoint.parameters), setup.run.num_rollout // setup.run.save_interval
    finding = (
        f"{decimal(free)} free for SAVE {folder}; a checkpoint takes about {decimal(size)} "
        f"(14 bytes a parameter), and {count} are written"
    )
    if size > free:
        yield failed("disk", finding, "export SAVE=<a folder on a larger disk>")
    elif size * count > free:
        yield warned(
            "disk", finding, "export SAVE=<a folder on a larger disk>, raise SAVE_INTERVAL, or delete old ones"
        )
    else:
        yield passed("disk", finding)


def dashboard(setup: Setup) -> Iterator[Result]:
    """RAY_ADDRESS names a cluster, or the port of Ray's dashboard is free, so that training starts a Ray of its own."""
    if address := setup.run.ray_address:
        yield _cluster(address)
        return
    with socket.socket() as probe:
        probe.settimeout(5)
        taken = probe.connect_ex(("127.0.0.1", _DASHBOARD)) == 0
    if taken:
        fix = "ray status tells; end it with ray stop, or submit to it: export RAY_ADDRESS=http://127.0.0.1:8265"
        yield warned(f"port {_DASHBOARD}", "taken, probably by a Ray cluster, which training would join", fix)
    else:
        yield passed(f"port {_DASHBOARD}", "free for the dashboard of the training's Ray")


def _cluster(address: str) -> Result:
    """Whether a job can be submitted to the cluster at RAY_ADDRESS."""
    try:
        check_address(address)
    except ConfigError as error:
        return failed("RAY_ADDRESS", error.found, error.fix)
    if not address.startswith("http"):
        return skipped("RAY_ADDRESS", f"names a cluster: {address}; `ray status --address {address}` tells of it")
    answer = ask(f"{address.rstrip('/')}/api/version")
    if answer.answers:
        return passed("RAY_ADDRESS", f"the cluster at {address} answers")
    return failed("RAY_ADDRESS", f"{address}: {answer.reason}", "name the dashboard of a cluster that runs")


def _training_need(setup: Setup) -> int:
    return training_bytes(setup.checkpoint.parameters, gpus=setup.run.num_gpus, tensor_parallel=setup.run.tp)


def _index_memory(setup: Setup) -> int:
    """Of the retrieval server. Raises Waits."""
    settings = setup.launch
    try:
        if not settings.needs_index and settings.corpus_path:
            return bm25_bytes(count_rows(settings.corpus_path))
        if settings.index_path is not None:
            return index_facts(settings.index_path).in_memory
    except (SetupError, OSError, ImportError):
        raise Waits("corpus and index have to be put right first") from None
    raise Waits("INDEX_PATH has to be set first")


def _ram() -> tuple[int, int]:
    """Bytes there are and bytes that are free, within the limit of a container."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    values = {parts[0].rstrip(":"): int(parts[1]) << 10 for parts in lines if len(parts) > 1}
    there, free = values["MemTotal"], values["MemAvailable"]
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit() and int(most) < there:
        there = int(most)
        free = min(free, max(0, there - int(used.read_text())))
    return there, free


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


CHECKS = (gpus, gpu_memory, ram, disk, dashboard)
