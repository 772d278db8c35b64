"""Rows of vectors that are read from their file, against the same rows in memory."""

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.flat_file import map_flat, read_flat_header
from slime_search.retrieval.vectors.stored import RowReader, release

COUNT = 50


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((COUNT, 12)).astype(np.float16)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.npy"
    np.save(path, vectors)
    return path


@given(data=st.data())
def test_rows_of_a_part_are_those_of_the_array(file: Path, vectors: np.ndarray, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, COUNT - 1))
    part = range(start, data.draw(st.integers(start + 1, COUNT)))
    rows = np.array(data.draw(st.lists(st.integers(0, len(part) - 1), max_size=80)), np.int64)
    for whole in (np.load(file, mmap_mode="r"), vectors):
        reader = RowReader(whole, part)
        reader.announce(np.append(rows, -1))
        np.testing.assert_array_equal(reader.read(rows), vectors[part.start : part.stop][rows])
        assert (len(reader), reader.dimension) == (len(part), 12)


def test_a_faiss_file_is_read_behind_its_header(tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(3)
    index.add(np.arange(12, dtype=np.float32).reshape(4, 3))
    path = tmp_path / "flat.index"
    faiss.write_index(index, str(path))
    header = read_flat_header(path)
    assert header is not None
    assert RowReader(map_flat(path, header), range(1, 4)).read(np.array([2, 0])).tolist() == [[9, 10, 11], [3, 4, 5]]


def test_a_part_of_a_mapping_is_refused_since_its_place_in_the_file_is_unknown(file: Path) -> None:
    with pytest.raises(ValueError, match="give the whole, and the part as rows"):
        RowReader(np.load(file, mmap_mode="r")[3:])


def test_a_file_that_is_cut_while_it_is_open_is_named(tmp_path: Path, vectors: np.ndarray) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, vectors)
    reader = RowReader(np.load(path, mmap_mode="r"))
    with path.open("r+b") as cut:
        cut.truncate(path.stat().st_size // 2)
    with pytest.raises(VectorIndexError, match="cut short") as raised:
        reader.read(np.array([0, COUNT - 1]))
    assert str(path) in raised.value.found


def test_released_vectors_can_be_read_again(file: Path, vectors: np.ndarray) -> None:
    mapped = np.load(file, mmap_mode="r")
    part = mapped[7:]
    before = part.sum()
    release(part)
    release(vectors)
    assert part.sum() == before
    np.testing.assert_array_equal(mapped, vectors)


def test_a_file_larger_than_the_memory_can_be_opened(tmp_path: Path) -> None:
    """A process that may have 4 GB of its own opens 65 GB of vectors, of which none are on the disk."""
    count, dimension = 21_015_324, 768
    index = faiss.IndexFlatIP(dimension)
    path = tmp_path / "flat.index"
    faiss.write_index(index, str(path))
    header = bytearray(path.read_bytes())
    header[8:16] = count.to_bytes(8, "little")
    header[-8:] = (count * dimension).to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 4 * count * dimension)
    script = f"""
import resource
from pathlib import Path
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import Quantization
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
print(open_index(Path({str(path)!r}), quantization=Quantization.FP32).count)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(count)], done.stderr
