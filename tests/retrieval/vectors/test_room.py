"""What a store takes on the disk is known, and looked at, before it is built."""

import os
import re
from pathlib import Path

import faiss
import numpy as np
import pytest
from rich.progress import Progress

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.indexing.building import build
from slime_search.retrieval.indexing.inputs import FlatIndexFile
from slime_search.retrieval.indexing.room import check_room, store_bytes
from slime_search.retrieval.vectors.manifest import Kind, Source

TOO_MANY = 1 << 50


@pytest.mark.parametrize("kind", list(Kind))
def test_the_estimate_is_what_a_build_writes(kind: Kind, tmp_path: Path) -> None:
    count, dimension = 100_000, 24
    index = faiss.IndexFlatIP(dimension)
    index.add(np.random.default_rng(0).standard_normal((count, dimension), np.float32))
    faiss.write_index(index, str(tmp_path / "flat.index"))
    given = FlatIndexFile(tmp_path / "flat.index")
    with Progress(disable=True) as progress:
        manifest = build(tmp_path / kind, Source(kind=kind, shards=1, count=count), lambda: given, progress)
    assert sum(manifest.sizes.values()) == pytest.approx(store_bytes(kind, count, dimension), rel=0.01)


def test_too_small_a_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Huge(FlatIndexFile):
        def __init__(self) -> None:
            self.count, self.dimension = TOO_MANY, 768

    with Progress(disable=True) as progress, pytest.raises(VectorIndexError) as raised:
        build(tmp_path / "store", Source(kind=Kind.SQ8, shards=1, count=TOO_MANY), Huge, progress)
    assert re.search(r"store: .* are still to be written \(.* vectors of 768 numbers, sq8\)", raised.value.found)
    assert "--output" in raised.value.fix
    assert not (tmp_path / "store" / "vectors.npy").exists()


def test_what_is_written_already_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = store_bytes(Kind.FLAT, 100_000, 8)
    with (tmp_path / "vectors.npy").open("wb") as file:
        file.truncate(needed)
        file.write(bytes(needed // 2))
        file.flush()
        os.fsync(file.fileno())
    for free, is_enough in ((needed // 2 + 8_192, True), (needed // 2 - 8_192, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: type("Usage", (), {"free": free}))
        if is_enough:
            check_room(tmp_path, Kind.FLAT, 100_000, 8)
        else:
            with pytest.raises(VectorIndexError):
                check_room(tmp_path, Kind.FLAT, 100_000, 8)
