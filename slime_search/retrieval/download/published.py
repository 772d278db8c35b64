"""What is published, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One file, which a data set on the Hub holds whole or in parts."""

    repo: str
    parts: str
    """The names of its parts as a glob; they are joined in the order of their names."""
    target: str
    """What it is called once it is whole."""


INDEXES = {
    "flat": Published("PeterJinGo/wiki-18-e5-index", "part_*", "e5_Flat.index"),
    "hnsw64": Published("PeterJinGo/wiki-18-e5-index-HNSW64", "part_*", "e5_HNSW64.index"),
}
CORPUS = Published("PeterJinGo/wiki-18-corpus", "wiki-18.jsonl.gz", "wiki-18.jsonl.gz")
