"""Opens an index, whatever it is, and imports only what that kind needs."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.codes import ByteCodes, ByteScale, integers_are_fast
from slime_search.retrieval.vectors.exact_index import ExactIndex, Shard
from slime_search.retrieval.vectors.faiss_index import LeanIndex, LeanShard
from slime_search.retrieval.vectors.flat import OnProgress, devices_of, open_exact
from slime_search.retrieval.vectors.manifest import BYTES, SCALE, VECTORS, Kind, Manifest, shard_name
from slime_search.retrieval.vectors.rescoring import Stored
from slime_search.retrieval.vectors.vector_index import Part, Quantization, VectorIndex


def open_store(
    path: Path,
    *,
    device: str,
    part: Part | None,
    quantization: Quantization,
    on_progress: OnProgress,
) -> VectorIndex:
    """As ``open_index`` says. Codes and vectors stay in their files, mapped; on GPUs every kind is searched exactly.

    Raises:
        VectorIndexError: it can't be served.
    """
    manifest = Manifest.read(path)
    return open_as(path, manifest, device=device, part=part, quantization=quantization, on_progress=on_progress)


def open_as(
    path: Path,
    manifest: Manifest,
    *,
    device: str = "cpu",
    part: Part | None = None,
    quantization: Quantization = Quantization.AUTO,
    on_progress: OnProgress = lambda done, total: None,
) -> VectorIndex:
    """``open_store``, whatever the store says about itself."""
    devices = devices_of(device)
    count, shards = manifest.source.count, manifest.source.shards
    vectors = np.load(path / VECTORS, mmap_mode="c")
    if vectors.shape != (count, manifest.dimension) or vectors.dtype != np.float16:
        raise VectorIndexError(
            f"{path / VECTORS}: holds {vectors.shape} numbers of type {vectors.dtype} where the manifest says "
            f"{(count, manifest.dimension)} of float16; build the store again"
        )
    rows = range(count) if part is None else part.rows(count)
    mine = vectors[rows.start : rows.stop]
    if devices != ["cpu"] or manifest.source.kind == Kind.FLAT:
        name = str(path / VECTORS)
        return open_exact(
            mine,
            name,
            devices=devices,
            quantization=quantization,
            first_row=rows.start,
            on_progress=on_progress,
        )
    if manifest.source.kind == Kind.SQ8:
        return open_bytes(path, mine, rows, lost=manifest.lost, longest=manifest.longest)
    if part is not None and part.of != shards:
        raise VectorIndexError(
            f"{path}: was built in {shards} shards and can't be opened as part {part.index} of {part.of}; "
            f"use {shards} parts, or build it with --shards {part.of}"
        )
    numbers = range(shards) if part is None else [part.index]
    return open_lean(path, mine, rows, list(numbers), shards)


def open_bytes(path: Path, vectors: Stored, rows: range, *, lost: float, longest: float) -> ExactIndex:
    """The byte codes of ``rows``, whose vectors are ``vectors``."""
    codes = torch.from_numpy(np.load(path / BYTES, mmap_mode="c")[rows.start : rows.stop])
    integers = integers_are_fast(codes.shape[1])
    scanned = ByteCodes(codes, ByteScale(*np.load(path / SCALE)), lost=lost, longest=longest, integers=integers)
    return ExactIndex(vectors, [Shard(0, scanned)], first_row=rows.start)


def open_lean(path: Path, vectors: Stored, rows: range, numbers: list[int], shards: int) -> LeanIndex:
    """The shards ``numbers``, which hold ``rows``, whose vectors are ``vectors``."""
    opened: list[LeanShard] = []
    first = 0
    for number in numbers:
        file = path / shard_name(number, shards)
        try:
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise VectorIndexError(f"{file}: FAISS can't read it ({error}); build the store again") from None
        opened.append(LeanShard(first, index))
        first += index.ntotal
    if first != len(rows):
        raise VectorIndexError(f"{path}: holds {first:,} codes for {len(rows):,} vectors; build the store again")
    return LeanIndex(vectors, opened, first_row=rows.start)


def open_index(
    path: Path,
    *,
    device: str = "cpu",
    part: Part | None = None,
    quantization: Quantization = Quantization.AUTO,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> VectorIndex:
    """Opens a FAISS index file or a store that ``slime-search build-index`` built.

    Uncompressed vectors stay in their file, mapped into memory, and are searched exactly, on a CPU (``"cpu"``) or
    spread over all visible GPUs (``"cuda"``). ``part`` opens only that share of them; hits are positions in the whole.
    ``quantization`` is theirs while they are scanned; other indexes have their own.
    Reading many vectors takes a while; ``on_progress`` is told how many are read, and how many there are.

    Raises:
        VectorIndexError: it can't be served; the message names the file, the numbers and the fix.
    """
    missing = [name for name in ("torch", "faiss") if importlib.util.find_spec(name) is None]
    if missing:
        raise VectorIndexError(
            f"{path}: {' and '.join(missing)} not installed; run: pip install 'slime-search[retrieval]'"
        )
    try:
        return _open_file(path, device, part, quantization, on_progress)
    except OSError as error:
        raise VectorIndexError(f"{path}: {error.strerror}; name a FAISS index or a store of `build-index`") from None


def _open_file(
    path: Path,
    device: str,
    part: Part | None,
    quantization: Quantization,
    on_progress: Callable[[int, int], object],
) -> VectorIndex:
    from slime_search.retrieval.vectors.faiss_index import FaissIndex, refuse_other_metrics
    from slime_search.retrieval.vectors.flat import devices_of, open_exact
    from slime_search.retrieval.vectors.flat_file import map_flat, read_flat_header

    if path.is_dir():
        return open_store(path, device=device, part=part, quantization=quantization, on_progress=on_progress)
    header = read_flat_header(path)
    if header is None:
        if part is not None:
            raise VectorIndexError(f"{path}: only uncompressed vectors and stores can be opened in parts")
        return FaissIndex.open(path)
    refuse_other_metrics(path, header.metric)
    if header.count == 0:
        raise VectorIndexError(f"{path}: holds no vectors; build it again from a corpus with passages")
    rows = part.rows(header.count) if part is not None else range(header.count)
    vectors = map_flat(path, header)[rows.start : rows.stop]
    return open_exact(
        vectors,
        str(path),
        devices=devices_of(device),
        quantization=quantization,
        first_row=rows.start,
        on_progress=on_progress,
    )
