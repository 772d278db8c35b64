"""What ``build-index`` builds, and how it is opened."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from slime_search.cli.build_index import app
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.manifest import Kind, Manifest
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.vector_index import Part

Floats = npt.NDArray[np.float32]


def build(*options: object) -> str:
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="session", params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture(scope="session")
def store(kind: Kind, flat_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / kind
    shown = build("--from-index", flat_file, "--output", path, "--kind", kind, "--shards", 2)
    assert "best 3" in shown
    assert "vectors with noise" in shown
    return path


@pytest.fixture
def asked(clustered: Floats) -> Floats:
    rng = np.random.default_rng(7)
    mixed = clustered[:300] + 0.08 * rng.standard_normal((300, clustered.shape[1]))
    return mixed.astype(np.float32)


def recall(found: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(there, here).mean() for here, there in zip(found, true, strict=True)]))


def test_it_finds_what_exact_search_finds(kind: Kind, store: Path, clustered: Floats, asked: Floats) -> None:
    stored = clustered.astype(np.float16).astype(np.float64)
    products = asked.astype(np.float64) @ stored.T
    true = np.argsort(-products, axis=1, kind="stable")[:, :3]
    index = open_index(store)
    assert (index.count, index.dimension) == clustered.shape
    found = index.search(asked, 3)
    if kind in (Kind.FLAT, Kind.SQ8):
        np.testing.assert_array_equal(found.rows, true)
    assert recall(found.rows, true) > 0.95
    # Scores are exact whatever named the candidates.
    np.testing.assert_allclose(found.scores, np.take_along_axis(products, found.rows, 1), rtol=1e-6)


def test_the_self_test_is_kept(kind: Kind, store: Path) -> None:
    kept = Manifest.read(store).self_test
    assert kept is not None
    assert kept.queries == 500
    assert set(kept.recall) == {1, 3, 10}
    assert kept.recall[3] >= (1.0 if kind in (Kind.FLAT, Kind.SQ8) else 0.9)
    assert not (store / "building").exists()


def test_parts_together_find_what_the_whole_finds(store: Path, asked: Floats) -> None:
    whole = open_index(store).search(asked, 5)
    parts = [open_index(store, part=Part(number, 2)).search(asked, 5) for number in range(2)]
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :5]
    merged = np.take_along_axis(rows, order, 1)
    # Two shards name twice as many candidates for the whole index as for one part, and never fewer.
    assert recall(merged, whole.rows) > 0.99


def test_more_than_there_is(store: Path, asked: Floats, clustered: Floats) -> None:
    found = open_index(store, part=Part(0, 2)).search(asked[:2], 12_000)
    assert found.rows.shape == (2, 12_000)
    there = found.rows >= 0
    assert (there.sum(axis=1) <= len(clustered) // 2).all()
    assert np.isneginf(found.scores[~there]).all()
    assert np.isfinite(found.scores[there]).all()


def test_several_threads_and_no_queries(store: Path, asked: Floats) -> None:
    index = open_index(store)
    together = index.search(asked, 4)
    with ThreadPoolExecutor(4) as threads:
        apart = list(threads.map(lambda start: index.search(asked[start : start + 20], 4).rows, range(0, 300, 20)))
    np.testing.assert_array_equal(np.concatenate(apart), together.rows)
    assert index.search(asked[:0], 4).rows.shape == (0, 4)


def test_a_second_build_is_not_one(kind: Kind, store: Path, flat_file: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir() if path.name != ".lock"}
    assert "best 3" in build("--from-index", flat_file, "--output", store, "--kind", kind, "--shards", 2)
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir() if path.name != ".lock"} == before


def test_something_else_is_refused(kind: Kind, store: Path, flat_file: Path, tmp_path: Path) -> None:
    other = Kind.FLAT if kind != Kind.FLAT else Kind.SQ8
    result = CliRunner().invoke(app, ["--from-index", str(flat_file), "--output", str(store), "--kind", other])
    assert result.exit_code == 1
    assert f"kind was '{kind}' and is '{other}'; shards was 2 and is 1" in result.output
    (tmp_path / "thesis.tex").touch()
    result = CliRunner().invoke(app, ["--from-index", str(flat_file), "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds other files" in result.output


def test_damaged_stores_are_refused(flat_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build("--from-index", flat_file, "--output", store, "--kind", "rabitq", "--shards", 2)
    with pytest.raises(VectorIndexError, match=r"built in 2 shards.*part 0 of 3.*--shards 3"):
        open_index(store, part=Part(0, 3))
    codes = store / "codes-00001-of-00002.faiss"
    whole = codes.read_bytes()
    codes.write_bytes(whole[:-1])
    with pytest.raises(VectorIndexError, match=rf"{codes}: has {len(whole) - 1:,} bytes instead of {len(whole):,}"):
        open_index(store)
    codes.unlink()
    with pytest.raises(VectorIndexError, match=r"00001-of-00002\.faiss: is missing"):
        open_index(store)
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(VectorIndexError, match=r"manifest.json: version: .* build the store again"):
        open_index(store)
    (store / "manifest.json").unlink()
    with pytest.raises(VectorIndexError, match="its build has not ended"):
        open_index(store)
