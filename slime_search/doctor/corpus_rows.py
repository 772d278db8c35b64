"""How many passages a corpus holds: known from an earlier start, counted, or estimated."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson

_COUNTED_BYTES = 2 << 30
"""A file of up to this size is counted, which takes seconds."""
_SAMPLED_ROWS = 1_000
_PACKED_SHARE = 3
"""Text of this kind takes about so many times its packed size."""


class Rows(NamedTuple):
    total: int
    exact: bool
    words: float
    """Different words of a passage, on average over the first ones."""

    def __str__(self) -> str:
        if self.exact:
            return f"{self.total:,} passages"
        return f"about {self.total:,} passages, by the first {_SAMPLED_ROWS:,}"


@lru_cache(8)
def count_rows(path: Path) -> Rows:
    """Raises CorpusError where the file can't be read, or its beginning is none of passages."""
    from slime_search.retrieval.bm25 import split_words
    from slime_search.retrieval.corpus_file import glance
    from slime_search.retrieval.passages import passage_text

    seen = glance(path, _SAMPLED_ROWS)
    words = sum(len(set(split_words(passage_text(orjson.loads(row))))) for row in seen.rows) / len(seen.rows)
    if seen.total is not None:
        return Rows(seen.total, True, words)
    size = path.stat().st_size
    if not seen.is_packed and size <= _COUNTED_BYTES:
        with path.open("rb") as lines:
            return Rows(sum(1 for line in lines if line.strip()), True, words)
    return Rows(int(size * (_PACKED_SHARE if seen.is_packed else 1) * len(seen.rows) / seen.bytes), False, words)
