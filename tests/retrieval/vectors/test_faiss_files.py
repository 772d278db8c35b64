"""FAISS files that are not what they should be, and those of other kinds."""

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import Part


def test_cut_short(flat_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.index"
    whole = flat_file.read_bytes()
    for size in (len(whole) - 4, 30):
        cut.write_bytes(whole[:size])
        with pytest.raises(VectorIndexError, match=r"cut\.index"):
            open_index(cut)
    cut.write_bytes(whole[:-4])
    with pytest.raises(VectorIndexError, match=f"has {len(whole) - 4:,} bytes where.* take {len(whole):,}"):
        open_index(cut)
    cut.write_bytes(b"")
    with pytest.raises(VectorIndexError, match="can't read it"):
        open_index(cut)
    with pytest.raises(VectorIndexError, match="No such file"):
        open_index(tmp_path / "nothing.index")


def test_other_kinds_are_searched_by_faiss(clustered: npt.NDArray[np.float32], tmp_path: Path) -> None:
    path = tmp_path / "sq.index"
    index = faiss.index_factory(64, "SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(clustered)
    index.add(clustered[:100])
    faiss.write_index(index, str(path))
    opened = open_index(path)
    assert (opened.count, opened.dimension) == (100, 64)
    found = opened.search(clustered[:5], 120)
    np.testing.assert_array_equal(found.rows[:, :100], index.search(clustered[:5], 100)[1])
    assert (found.rows[:, 100:] == -1).all()
    assert np.isneginf(found.scores[:, 100:]).all()
    with pytest.raises(VectorIndexError, match="parts"):
        open_index(path, part=Part(0, 2))


@pytest.mark.parametrize("factory", ["Flat", "SQ8"])
def test_distances_are_refused(clustered: npt.NDArray[np.float32], tmp_path: Path, factory: str) -> None:
    path = tmp_path / "l2.index"
    index = faiss.index_factory(64, factory, faiss.METRIC_L2)
    index.train(clustered)
    index.add(clustered[:100])
    faiss.write_index(index, str(path))
    with pytest.raises(VectorIndexError, match=r"l2.index: searches by L2 distances"):
        open_index(path)


def test_no_such_part_or_device(flat_file: Path) -> None:
    for part in (Part(3, 3), Part(-1, 3), Part(0, 30_000)):
        with pytest.raises(VectorIndexError, match=f"part {part.index} of {part.of} does not exist among 20,000"):
            open_index(flat_file, part=part)
    with pytest.raises(VectorIndexError, match="'tpu' is not here"):
        open_index(flat_file, device="tpu")
