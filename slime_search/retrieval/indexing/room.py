"""The disk space that a store takes."""

import os
import shutil
from pathlib import Path

from rich.filesize import decimal

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.manifest import Kind

_RABITQ_EXTRA = 8
"""Bytes beside the bits of a vector: two factors, in float32."""


def store_bytes(kind: Kind, count: int, dimension: int) -> int:
    """Of a store of ``count`` vectors, within a hundredth where there are 100,000 of them or more.

    The vectors take two bytes a number; ``sq8`` adds one, and ``rabitq`` a bit a number and eight bytes a vector: for
    Wikipedia's 21,015,324 passages and 768 numbers, 34.5 GB, of which the codes are 2.2.
    """
    codes = {Kind.FLAT: 0, Kind.SQ8: dimension, Kind.RABITQ: -(-dimension // 8) + _RABITQ_EXTRA}
    return count * (2 * dimension + codes[kind])


def check_room(store: Path, kind: Kind, count: int, dimension: int) -> None:
    """Whether what is still to be written fits on the disk of ``store``, which is there.

    Raises:
        VectorIndexError: it does not.
    """
    # A file that was made in its full size holds only what was written into it.
    written = sum(entry.stat().st_blocks * 512 for entry in os.scandir(store) if entry.is_file())
    needed = store_bytes(kind, count, dimension) - written
    free = shutil.disk_usage(store).free
    if needed > free:
        raise VectorIndexError(
            f"{store}: {decimal(needed)} are still to be written ({count:,} vectors of {dimension} numbers, {kind}) "
            f"and {decimal(free)} are free there",
            f"free {decimal(needed - free)}, or name a folder on a larger disk with --output",
        )
