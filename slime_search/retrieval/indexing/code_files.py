"""Makes the codes that a store scans, from its vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np

from slime_search.files import written_whole
from slime_search.retrieval.indexing.folder import Folder
from slime_search.retrieval.vectors.codes import ByteScale
from slime_search.retrieval.vectors.flat import blocks, sample
from slime_search.retrieval.vectors.manifest import BYTES, SCALE, VECTORS, Kind, shard_name
from slime_search.retrieval.vectors.stored import Stored
from slime_search.retrieval.vectors.vector_index import Part

OnRows = Callable[[int], object]


class Codes(NamedTuple):
    files: list[str]
    lost: float = 0.0
    longest: float = 0.0


def write_codes(folder: Folder, vectors: Stored, kind: Kind, shards: int, on_rows: OnRows) -> Codes:
    """The codes' files, complete; what an interrupted run has made of the current one is made again.

    Raises:
        VectorIndexError: there are more shards than vectors.
    """
    if kind == Kind.FLAT:
        return Codes([])
    if kind == Kind.SQ8:
        return _write_bytes(folder, vectors, on_rows)
    names = [shard_name(number, shards) for number in range(shards)]
    for number, name in enumerate(names):
        rows = Part(number, shards).rows(len(vectors))
        if not (folder.store / name).exists():
            index = _faiss_codes(folder, vectors[rows.start : rows.stop], _after(rows.start, on_rows))
            with written_whole(folder.store / name) as new:
                faiss.write_index(index, str(new))
        on_rows(rows.stop)
    return Codes(names)


def _write_bytes(folder: Folder, vectors: Stored, on_rows: OnRows) -> Codes:
    scale = ByteScale.fit(sample(vectors))
    np.save(folder.store / SCALE, np.stack(scale))
    lost = longest = 0.0
    with written_whole(folder.store / BYTES) as new:
        codes = np.lib.format.open_memmap(new, "w+", np.int8, vectors.shape)
        for start, block in blocks(vectors, VECTORS, lambda done, total: on_rows(done)):
            codes[start : start + len(block)], block_lost, block_longest = scale.encode(block)
            lost, longest = max(lost, block_lost), max(longest, block_longest)
        codes.flush()
    return Codes([BYTES, SCALE], lost, longest)


def _faiss_codes(folder: Folder, vectors: Stored, on_rows: OnRows) -> Any:
    """One bit a dimension."""
    dimension = vectors.shape[1]
    # A rotation spreads what a few dimensions hold over all of them, whose signs are kept.
    index = faiss.index_factory(dimension, f"RR{dimension},RaBitQfs", faiss.METRIC_INNER_PRODUCT)
    index.train(sample(vectors))
    for _, block in blocks(vectors, str(folder.store / VECTORS), lambda done, total: on_rows(done)):
        index.add(block)
    return index


def _after(rows: int, on_rows: OnRows) -> OnRows:
    return lambda done: on_rows(rows + done)
