"""Opens an index, whatever it is: a FAISS file, or a store that ``slime-search build-index`` built."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.codes import ByteCodes, ByteScale, integers_are_fast
from slime_search.retrieval.vectors.exact_index import ExactIndex, Shard
from slime_search.retrieval.vectors.faiss_ids import CorpusIds
from slime_search.retrieval.vectors.faiss_index import FaissIndex, refuse_other_metrics
from slime_search.retrieval.vectors.flat import OnProgress, devices_of, open_exact
from slime_search.retrieval.vectors.flat_file import map_flat, read_flat_header
from slime_search.retrieval.vectors.lean_index import LeanIndex, LeanShard
from slime_search.retrieval.vectors.manifest import BYTES, SCALE, VECTORS, Kind, Manifest, shard_name
from slime_search.retrieval.vectors.stored import RowReader, as_tensor, read_ahead
from slime_search.retrieval.vectors.vector_index import Part, Quantization, VectorIndex


def open_index(
    path: Path,
    *,
    device: str = "cpu",
    part: Part | None = None,
    quantization: Quantization = Quantization.AUTO,
    nprobe: int | None = None,
    ef_search: int | None = None,
    corpus_ids: CorpusIds = lambda: None,
    on_progress: OnProgress = lambda done, total: None,
) -> VectorIndex:
    """Opens a FAISS file or a store.

    Uncompressed vectors stay in their file, mapped into memory, and are searched exactly; other FAISS files are
    searched by FAISS.

    Args:
        path: the file, or the store's folder.
        device: ``cpu``, or ``cuda`` for all visible GPUs; only uncompressed vectors and stores are searched on them.
        part: opens only that share of the vectors; hits are positions in the whole.
        quantization: how uncompressed vectors are held while they are scanned; other indexes have their own.
        nprobe: lists that an IVF index searches; None measures how many it takes.
        ef_search: candidates that an HNSW index keeps; None measures how many it takes.
        corpus_ids: the ids of the corpus's rows, asked for where the index's are no positions.
        on_progress: told how many vectors are read, and how many there are.

    Raises:
        VectorIndexError: it can't be served; the message names the file, the numbers and the fix.
    """
    try:
        header = None if path.is_dir() else read_flat_header(path)
        if header is None and not path.is_dir():
            if part is not None:
                raise VectorIndexError(f"{path}: only uncompressed vectors and stores can be opened in parts")
            return FaissIndex.open(path, corpus_ids, nprobe=nprobe, ef_search=ef_search)
        for name, value in (("nprobe", nprobe), ("ef_search", ef_search)):
            if value is not None:
                raise VectorIndexError(f"{name}: {path} is not of a kind that has it", "leave it out")
        if header is None:
            return _open_store(path, device, part, quantization, on_progress)
    except OSError as error:
        raise VectorIndexError(f"{path}: {error.strerror}; name a FAISS index or a store of `build-index`") from None
    refuse_other_metrics(path, header.metric)
    if header.count == 0:
        raise VectorIndexError(f"{path}: holds no vectors; build it again from a corpus with passages")
    return open_exact(
        map_flat(path, header),
        str(path),
        devices=devices_of(device),
        quantization=quantization,
        rows=None if part is None else part.rows(header.count),
        on_progress=on_progress,
    )


def _open_store(
    path: Path, device: str, part: Part | None, quantization: Quantization, on_progress: OnProgress
) -> VectorIndex:
    manifest = Manifest.read(path)
    return open_as(path, manifest, device=device, part=part, quantization=quantization, on_progress=on_progress)


def open_as(
    path: Path,
    manifest: Manifest,
    *,
    device: str = "cpu",
    part: Part | None = None,
    quantization: Quantization = Quantization.AUTO,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> VectorIndex:
    """The store in ``path``, as ``manifest`` describes it, whatever its own says.

    Codes and vectors stay in their files, mapped; on GPUs every kind is searched exactly.

    Raises:
        VectorIndexError: it can't be served.
    """
    devices = devices_of(device)
    count, shards = manifest.source.count, manifest.source.shards
    vectors = np.load(path / VECTORS, mmap_mode="r")
    if vectors.shape != (count, manifest.dimension) or vectors.dtype != np.float16:
        raise VectorIndexError(
            f"{path / VECTORS}: holds {vectors.shape} numbers of type {vectors.dtype} where the manifest says "
            f"{(count, manifest.dimension)} of float16; build the store again"
        )
    rows = range(count) if part is None else part.rows(count)
    if devices != ["cpu"] or manifest.source.kind == Kind.FLAT:
        return open_exact(
            vectors,
            str(path / VECTORS),
            devices=devices,
            quantization=quantization,
            rows=rows,
            on_progress=on_progress,
        )
    reader = RowReader(vectors, rows)
    if manifest.source.kind == Kind.SQ8:
        return _open_bytes(path, reader, rows, manifest)
    if part is not None and part.of != shards:
        raise VectorIndexError(
            f"{path}: was built in {shards} shards and can't be opened as part {part.index} of {part.of}; "
            f"use {shards} parts, or build it with --shards {part.of}"
        )
    return _open_lean(path, reader, rows, range(shards) if part is None else [part.index], shards)


def _open_bytes(path: Path, vectors: RowReader, rows: range, manifest: Manifest) -> ExactIndex:
    """The byte codes of ``rows``, whose vectors are ``vectors``."""
    codes = as_tensor(np.load(path / BYTES, mmap_mode="r")[rows.start : rows.stop])
    scanned = ByteCodes(
        codes,
        ByteScale(*np.load(path / SCALE)),
        lost=manifest.lost,
        longest=manifest.longest,
        integers=integers_are_fast(codes.shape[1]),
    )
    return ExactIndex(vectors, [Shard(0, scanned)], first_row=rows.start)


def _open_lean(path: Path, vectors: RowReader, rows: range, numbers: range | list[int], shards: int) -> LeanIndex:
    """The shards ``numbers``, which hold ``rows``, whose vectors are ``vectors``."""
    opened: list[LeanShard] = []
    first = 0
    for number in numbers:
        file = path / shard_name(number, shards)
        try:
            read_ahead(file)
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise VectorIndexError(f"{file}: FAISS can't read it ({error}); build the store again") from None
        opened.append(LeanShard(first, index))
        first += index.ntotal
    if first != len(rows):
        raise VectorIndexError(f"{path}: holds {first:,} codes for {len(rows):,} vectors; build the store again")
    return LeanIndex(vectors, opened, first_row=rows.start)
