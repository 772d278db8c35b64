"""Corpus and index of the retrieval server: whether they belong together, by their headers."""

import importlib.util
import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.filesize import decimal

from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.retrieval.errors import SetupError

_ROUGHLY = 0.2
"""How far an estimate of the passages may be from their number."""
_COUNTED_BYTES = 2 << 30
"""A file of up to this size is counted, which takes seconds."""
_SAMPLED_ROWS = 1_000
_USUAL_DIMENSION = 768
"""Of e5-base and most encoders that Wikipedia is searched with."""
_PACKED_SHARE = 3
"""Text of this kind takes about so many times its packed size."""
_FAISS_HEADER = struct.Struct("<4siq")
"""Kind, dimension and count, with which FAISS's files of vectors begin (faiss/impl/index_write.cpp)."""
_FLAT = (b"IxFI", b"IxF2", b"IxFl")
"""Files of uncompressed vectors, which have no ids; of those that can have some, ``Ix`` are maps and ``Iw`` lists."""
_ANOTHER = "name another file with CORPUS_PATH and INDEX_PATH"


def corpus(setup: Setup) -> Iterator[Result]:
    """The corpus is there, and its first rows are passages."""
    if why := _why_not(setup):
        yield skipped("corpus", why)
        return
    path = _corpus_path(setup)
    try:
        rows = count_rows(path)
    except SetupError as error:
        yield failed("corpus", error.found, error.fix or _ANOTHER)
        return
    yield passed("corpus", f"{path}: {rows}")


def index(setup: Setup) -> Iterator[Result]:
    """The index holds a vector for every passage, of the length that the encoder makes."""
    if not setup.launch.needs_index:
        yield skipped("index", f"RETRIEVER_NAME is {setup.launch.retriever_name}, which needs none")
        return
    if why := _why_not(setup):
        yield skipped("index", why)
        return
    from slime_search.retrieval.collection import RetrieverSettings, check_fit

    path, model = setup.launch.index_path, setup.launch.retriever_model
    assert path is not None
    made = encoder_dimension(model)
    settings = RetrieverSettings(corpus_path=_corpus_path(setup), index_path=path, model=model)
    try:
        facts, rows = index_facts(path), count_rows(settings.corpus_path)
        near = not rows.exact and abs(facts.vectors - rows.total) <= _ROUGHLY * rows.total
        check_fit(
            settings,
            vectors=facts.vectors,
            rows=facts.vectors if near else rows.total,
            dimension=facts.dimension,
            made=made or facts.dimension,
        )
        _check_ids(path, settings.corpus_path)
    except SetupError as error:
        yield failed("index", error.found, error.fix or _ANOTHER)
        return
    fits = f"{rows} (the server counts them)" if near else "as many passages"
    yield passed("index", f"{path}: {facts.kind}, {facts.vectors:,} vectors of {facts.dimension} numbers; {fits}")
    if made is None:
        finding = f"{model} is no folder and not in the Hub's cache; the server's first start downloads it"
        yield warned("encoder", finding, f"hf download {model}, where this machine has no internet later")
    else:
        yield passed("encoder", f"{model} makes vectors of {made} numbers")


def room_for_an_index(setup: Setup) -> Iterator[Result]:
    """Where the index is still to be built, it fits on the disk."""
    name, path = "disk for the index", setup.launch.index_path
    if not setup.launch.needs_index or not setup.starts_retriever or path is None or path.exists():
        yield skipped(name, "none is to be built")
        return
    from slime_search.retrieval.indexing.room import store_bytes
    from slime_search.retrieval.vectors.manifest import Kind

    if not _corpus_path(setup).exists():
        raise Waits(f"{setup.launch.corpus_path} has to exist first")
    folder = path.absolute()
    disk = next(parent for parent in folder.parents if parent.exists())
    rows, free = count_rows(_corpus_path(setup)), shutil.disk_usage(disk).free
    dimension = encoder_dimension(setup.launch.retriever_model) or _USUAL_DIMENSION
    needed = store_bytes(Kind.RABITQ, rows.total, dimension)
    finding = (
        f"{path} does not exist; build-index --kind rabitq writes {decimal(needed)} there for {rows} and {dimension} "
        f"numbers each, and {decimal(free)} are free on {disk}"
    )
    if needed > free:
        yield failed(name, finding, "free some, or export INDEX_PATH=<a folder on a larger disk>")
    else:
        yield passed(name, finding)


def _check_ids(path: Path, corpus_path: Path) -> None:
    """Raises SetupError where a FAISS file's vectors have ids that stand for no rows of the corpus."""
    with path.open("rb") if path.is_file() else nullcontext() as file:
        kind = file.read(4) if file else b""
    if kind[:2] not in (b"Ix", b"Iw") or kind in _FLAT or importlib.util.find_spec("faiss") is None:
        return
    from slime_search.retrieval.corpus import Corpus
    from slime_search.retrieval.vectors.faiss_ids import own_ids, rows_of_ids
    from slime_search.retrieval.vectors.faiss_index import FaissIndex

    if own := own_ids(FaissIndex.read(path)):
        rows_of_ids(path, own, lambda: Corpus.read(corpus_path).ids())


def _why_not(setup: Setup) -> str | None:
    """Why corpus and index are not looked at. Raises Waits where another check reports what is missing."""
    if setup.config.search_backend != "local":
        return f"search_backend is {setup.config.search_backend!r}"
    given = setup.launch.model_fields_set & {"corpus_path", "index_path"}
    if not setup.starts_retriever and not given:
        return "the retrieval server has them"
    if any(importlib.util.find_spec(name) is None for name in ("bm25s", "Stemmer")):
        raise Waits("pip install 'slime-search[bm25]', or [retrieval], has to be done first")
    paths = [setup.launch.corpus_path] + ([setup.launch.index_path] if setup.launch.needs_index else [])
    missing = [path for path in paths if path is None or not path.exists()]
    if missing and setup.starts_retriever:
        raise Waits(f"{missing[0]} has to exist first")
    return f"{missing[0]} is not on this machine; the retrieval server has it" if missing else None


def _corpus_path(setup: Setup) -> Path:
    assert setup.launch.corpus_path is not None
    return setup.launch.corpus_path


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
    """Raises SetupError where the file can't be read, or its beginning is none of passages."""
    from slime_search.retrieval.corpus_file import glance, passage_text
    from slime_search.retrieval.words import Language, splitter_of

    seen = glance(path, _SAMPLED_ROWS)
    split = splitter_of(Language.ENGLISH)
    words = sum(len(set(split(passage_text(orjson.loads(row))))) for row in seen.rows) / len(seen.rows)
    if seen.total is not None:
        return Rows(seen.total, True, words)
    size = path.stat().st_size
    if not seen.is_packed and size <= _COUNTED_BYTES:
        with path.open("rb") as lines:
            return Rows(sum(1 for line in lines if line.strip()), True, words)
    return Rows(int(size * (_PACKED_SHARE if seen.is_packed else 1) * len(seen.rows) / seen.bytes), False, words)


class IndexFacts(NamedTuple):
    vectors: int
    dimension: int
    kind: str
    in_memory: int
    """Bytes that it takes while it is searched on a CPU; flat vectors are scanned as one byte a number."""


def index_facts(path: Path) -> IndexFacts:
    """Raises VectorIndexError where it is no index, or not whole."""
    from slime_search.retrieval.errors import VectorIndexError
    from slime_search.retrieval.vectors.flat_file import read_flat_header
    from slime_search.retrieval.vectors.manifest import VECTORS, Kind, Manifest

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
    raise VectorIndexError(f"{path}: neither a FAISS index nor a store", "name one, or make it with build-index")


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


CHECKS = (corpus, index, room_for_an_index)
