"""Writes training files."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_A_GROUP = 10_000


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows of one shape, at least one. The file has its name only once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    remaining = iter(rows)
    table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)))
    with pq.ParquetWriter(unfinished, table.schema) as writer:
        while len(table):
            writer.write_table(table)
            table = pa.Table.from_pylist(list(islice(remaining, _ROWS_A_GROUP)), schema=table.schema)
    unfinished.replace(path)
