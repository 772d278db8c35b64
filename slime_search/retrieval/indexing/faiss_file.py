"""A flat FAISS file of a corpus, as published indexes are, for whoever reads those."""

import shutil
from pathlib import Path

import faiss
import numpy as np
from rich.console import Console

from slime_search.files import written_whole
from slime_search.retrieval.indexing.command import build_store
from slime_search.retrieval.vectors.flat import blocks
from slime_search.retrieval.vectors.manifest import VECTORS, Kind


def build_faiss_file(
    path: Path, corpus_path: Path, *, name: str, model: str, device: str = "cpu", batch_size: int = 64
) -> None:
    """Encodes every passage and writes the vectors, searched by inner product. The file is there once it is whole.

    An interrupted call leaves ``<path>.building``, with which the next one goes on.

    Raises:
        SetupError: there is no such encoder, or the corpus can't be read.
    """
    store = path.with_name(f"{path.name}.building")
    encoding: dict[str, str | int] = {"device": device, "precision": "auto", "batch_size": batch_size}
    build_store(
        store,
        corpus_path=corpus_path,
        name=name,
        model=model,
        from_index=None,
        kind=Kind.FLAT,
        shards=1,
        encoding=encoding,
        console=Console(stderr=True),
    )
    vectors = np.load(store / VECTORS, mmap_mode="r")
    index = faiss.IndexFlatIP(vectors.shape[1])
    for _, block in blocks(vectors, VECTORS, lambda done, total: None):
        index.add(block)
    with written_whole(path) as new:
        faiss.write_index(index, str(new))
    shutil.rmtree(store)
