"""What an index and an encoder say about themselves, without loading them."""

import importlib.util
import json
import struct
from pathlib import Path
from typing import NamedTuple

_FAISS_HEADER = struct.Struct("<4siq")
"""Kind, dimension and count, with which FAISS's files of vectors begin (faiss/impl/index_write.cpp)."""


class IndexFacts(NamedTuple):
    vectors: int
    dimension: int
    kind: str
    in_memory: int
    """Bytes that it takes while it is searched on a CPU; flat vectors are scanned as one byte a number."""


def index_facts(path: Path) -> IndexFacts:
    """Raises VectorIndexError where it is no index, or not whole."""
    from slime_search.retrieval.vectors.errors import VectorIndexError
    from slime_search.retrieval.vectors.flat_file import read_flat_header
    from slime_search.retrieval.vectors.manifest import Kind, Manifest
    from slime_search.retrieval.vectors.store_files import VECTORS

    if path.is_dir():
        manifest = Manifest.read(path)
        count, dimension, kind = manifest.source.count, manifest.dimension, manifest.source.kind
        codes = sum(size for name, size in manifest.sizes.items() if name != VECTORS)
        return IndexFacts(count, dimension, f"a store ({kind})", count * dimension if kind == Kind.FLAT else codes)
    if header := read_flat_header(path):
        return IndexFacts(header.count, header.dimension, "flat vectors", header.count * header.dimension)
    with path.open("rb") as file:
        head = file.read(_FAISS_HEADER.size)
    if len(head) == _FAISS_HEADER.size and head[:1] == b"I":
        fourcc, dimension, count = _FAISS_HEADER.unpack(head)
        if 0 < dimension < 1 << 16 and 0 < count < 1 << 40:
            return IndexFacts(count, dimension, f"FAISS's {fourcc.decode(errors='replace')}", path.stat().st_size)
    raise VectorIndexError(f"{path}: neither a FAISS index nor a store; name one, or make it with build-index")


def encoder_dimension(model: str) -> int | None:
    """The length of an encoder's vectors by its configuration; None where that is not on this machine."""
    folder = Path(model)
    if folder.is_dir():
        config = folder / "config.json"
    else:
        if importlib.util.find_spec("huggingface_hub") is None:
            return None
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "config.json")
        if not isinstance(cached, str):
            return None
        config = Path(cached)
    try:
        size = json.loads(config.read_bytes()).get("hidden_size")
    except (OSError, ValueError):
        return None
    return size if isinstance(size, int) else None
