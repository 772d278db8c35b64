"""Opens uncompressed vectors for exact search, on a CPU or on GPUs."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.codes import ByteCodes, ByteScale, Codes, PlainCodes, integers_are_fast
from slime_search.retrieval.vectors.exact_index import ExactIndex, Shard
from slime_search.retrieval.vectors.stored import RowReader, Stored, as_tensor, release
from slime_search.retrieval.vectors.vector_index import Quantization

OnProgress = Callable[[int, int], object]
_BLOCK_NUMBERS = 1 << 24
_SAMPLE = 20_000


def devices_of(device: str) -> list[str]:
    """Torch's names: for ``cuda`` all visible GPUs. Raises VectorIndexError where there is none."""
    if device == "cpu":
        return ["cpu"]
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise VectorIndexError(f"device {device!r} is not here; choose cpu, or cuda on a machine with NVIDIA GPUs")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device == "cuda" else [device]


def open_exact(
    vectors: Stored,
    name: str,
    *,
    devices: Sequence[str] = ("cpu",),
    quantization: Quantization = Quantization.AUTO,
    rows: range | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> ExactIndex:
    """Spreads vectors over ``devices`` in the form in which they are scanned; that reads them once.

    A CPU scans bytes where it multiplies them faster than float32, which takes memory of a quarter of float32; else it
    scans the vectors where they are. A GPU scans float16.

    Args:
        vectors: in memory, or mapped as a whole.
        name: of their file, for errors.
        devices: torch's names.
        quantization: the form.
        rows: the run of them that is searched; None for all. Hits are positions in the whole.
        on_progress: told how many vectors are read, and how many there are.

    Raises:
        VectorIndexError: a vector holds NaN or inf.
    """
    rows = range(len(vectors)) if rows is None else rows
    reader, vectors = RowReader(vectors, rows), vectors[rows.start : rows.stop]
    bounds = [len(vectors) * i // len(devices) for i in range(len(devices) + 1)]
    shards: list[Shard] = []
    for device, start, stop in zip(devices, bounds, bounds[1:], strict=False):
        if start < stop:
            chosen = _choose(quantization, device, vectors.shape[1])

            def report(done: int, _total: int, start: int = start) -> None:
                on_progress(start + done, len(vectors))

            where = f"{name}, after vector {start + rows.start:,}"
            shards.append(Shard(start, _codes(vectors[start:stop], where, device, chosen, report)))
    return ExactIndex(reader, shards, first_row=rows.start)


def _choose(quantization: Quantization, device: str, dimension: int) -> Quantization:
    if quantization != Quantization.AUTO:
        return quantization
    if device != "cpu":
        return Quantization.FP16
    return Quantization.BYTES if integers_are_fast(dimension) else Quantization.FP32


def _codes(vectors: Stored, name: str, device: str, quantization: Quantization, on_progress: OnProgress) -> Codes:
    if quantization == Quantization.BYTES:
        return _as_bytes(vectors, name, device, on_progress)
    if quantization == Quantization.FP32 and device == "cpu":
        return PlainCodes(as_tensor(vectors))
    dtype = torch.float16 if quantization == Quantization.FP16 else torch.float32
    copied = torch.empty(vectors.shape, dtype=dtype, device=device)
    for start, block in blocks(vectors, name, on_progress):
        copied[start : start + len(block)] = as_tensor(block).to(dtype)
    return PlainCodes(copied)


def _as_bytes(vectors: Stored, name: str, device: str, on_progress: OnProgress) -> ByteCodes:
    scale = ByteScale.fit(sample(vectors))
    codes = np.empty(vectors.shape, np.int8)
    lost = longest = 0.0
    for start, block in blocks(vectors, name, on_progress):
        codes[start : start + len(block)], block_lost, block_longest = scale.encode(block)
        lost, longest = max(lost, block_lost), max(longest, block_longest)
    integers = device == "cpu" and hasattr(torch, "_int_mm")
    return ByteCodes(torch.from_numpy(codes).to(device), scale, lost=lost, longest=longest, integers=integers)


def sample(vectors: Stored, size: int = _SAMPLE) -> Vectors:
    """Up to ``size`` vectors from all over, as float32."""
    return np.asarray(vectors[:: max(1, -(-len(vectors) // size))], np.float32)


def blocks(vectors: Stored, name: str, on_progress: OnProgress) -> Iterator[tuple[int, Vectors]]:
    """Runs of vectors as float32, each with the position of its first. Raises VectorIndexError for NaN and inf."""
    rows = max(1, _BLOCK_NUMBERS // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        block = np.asarray(vectors[start : start + rows], np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise VectorIndexError(
                f"{name}: vector {start + int(np.argmin(finite)):,} holds NaN or inf; build the index again, "
                "with an encoder in float32 where half precision overflows"
            )
        yield start, block
        release(vectors)
        on_progress(start + len(block), len(vectors))
