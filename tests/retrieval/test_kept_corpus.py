"""What opening a corpus leaves beside it, and when that is used again."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.errors import CorpusError

GOOD = b'{"id": "0", "contents": "red fox"}\n'
OTHER = b'{"id": "0", "contents": "red hen"}\n'

json_rows = st.builds(
    lambda text, extra, ascii_only: json.dumps({"contents": text, "x": extra}, ensure_ascii=ascii_only).encode(),
    st.text(min_size=1, max_size=8).filter(str.strip),
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    st.booleans(),
)
blanks = st.text(alphabet=" \t\r\x0b\f", max_size=3).map(str.encode)
lines = st.lists(st.tuples(blanks, json_rows | st.just(b""), blanks).map(b"".join), max_size=8)


def rows_of(corpus: Corpus) -> list[bytes]:
    return [corpus.row(index) for index in range(len(corpus))]


@given(lines=lines, bom=st.booleans(), last_end=st.booleans(), zipped=st.booleans())
@example(lines=[GOOD.strip(), b"", GOOD.strip()], bom=True, last_end=False, zipped=True)
def test_rows_are_those_of_plain_reading(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bom: bool, last_end: bool, zipped: bool
) -> None:
    content = b"\xef\xbb\xbf" * bom + b"\n".join(lines) + b"\n" * last_end
    path = tmp_path_factory.mktemp("corpus") / "c"
    path.write_bytes(gzip.compress(content) if zipped else content)
    expected = [line.strip() for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if not expected:
        with pytest.raises(CorpusError, match="no passages"):
            Corpus.read(path)
        assert kept_beside(path) == set()
        return
    for _ in range(2):
        corpus = Corpus.read(path)
        assert rows_of(corpus) == expected
        assert list(corpus.texts()) == [json.loads(row)["contents"] for row in expected]


@pytest.fixture(params=["plain", "gzipped"])
def zipped(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "gzipped")


@pytest.fixture
def write(tmp_path: Path, zipped: bool) -> Callable[[bytes], Path]:
    """Writes the corpus, whose gzipped form does not depend on the time."""

    def write(content: bytes) -> Path:
        path = tmp_path / "corpus.jsonl"
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
        return path

    return write


def offsets_of(path: Path) -> Path:
    return path.with_name(path.name + ".offsets.npy")


def unpacked_of(path: Path) -> Path:
    return path.with_name(path.name + ".unpacked")


def kept_beside(path: Path) -> set[str]:
    return {other.name for other in path.parent.iterdir() if other != path}


def test_an_unchanged_file_is_read_once(write: Callable[[bytes], Path], zipped: bool) -> None:
    path = write(GOOD * 25_000)
    told: list[int] = []
    Corpus.read(path, lambda done, _total: told.append(done))
    kept = {name: (path.parent / name).stat().st_ino for name in kept_beside(path)}
    assert len(told) == 2
    assert set(kept) == {"corpus.jsonl.offsets.npy"} | ({"corpus.jsonl.unpacked"} if zipped else set())
    assert len(Corpus.read(path, lambda done, _total: told.append(done))) == 25_000
    assert len(told) == 2
    assert {name: (path.parent / name).stat().st_ino for name in kept_beside(path)} == kept


def grow(path: Path, write: Callable[[bytes], Path]) -> None:
    write(OTHER * 3)


def change_the_head_only(path: Path, write: Callable[[bytes], Path]) -> None:
    status = path.stat()
    write(OTHER * 2)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [grow, change_the_head_only])
def test_a_changed_file_is_read_again(
    write: Callable[[bytes], Path], change: Callable[[Path, Callable[[bytes], Path]], None]
) -> None:
    path = write(GOOD * 2)
    assert rows_of(Corpus.read(path)) == [GOOD.strip()] * 2
    change(path, write)
    content = path.read_bytes()
    plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    assert rows_of(Corpus.read(path)) == plain.splitlines()
    assert plain != GOOD * 2


@pytest.mark.parametrize("zipped", [False])
def test_a_change_behind_the_head_is_known_by_its_time(write: Callable[[bytes], Path], zipped: bool) -> None:
    longer = GOOD.replace(b"fox", b"foxes")
    path = write(GOOD * 40_000 + longer)
    Corpus.read(path)
    status = path.stat()
    write(GOOD * 39_999 + longer + GOOD)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    assert rows_of(Corpus.read(path))[-2:] == [longer.strip(), GOOD.strip()]


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "floats", "matrix", "few", "end", "pickle"])
def test_damaged_offsets_are_found_again(write: Callable[[bytes], Path], damage: str) -> None:
    path = write(GOOD * 2)
    Corpus.read(path)
    offsets = offsets_of(path)
    numbers = np.load(offsets)
    match damage:
        case "truncate":
            offsets.write_bytes(offsets.read_bytes()[:-8])
        case "garbage":
            offsets.write_bytes(b"not an array")
        case "empty":
            offsets.write_bytes(b"")
        case "floats":
            np.save(offsets, numbers.astype(np.float64))
        case "matrix":
            np.save(offsets, numbers[None])
        case "few":
            np.save(offsets, numbers[:7])
        case "end":
            np.save(offsets, numbers + (np.arange(len(numbers)) == len(numbers) - 1))
        case "pickle":
            np.save(offsets, np.array([{}], dtype=object), allow_pickle=True)
    assert rows_of(Corpus.read(path)) == [GOOD.strip()] * 2
    # What follows the stamps; a gzipped corpus was unpacked at another time.
    assert np.load(offsets)[6:].tolist() == numbers[6:].tolist() == [0, len(GOOD), 2 * len(GOOD)]


@pytest.mark.parametrize("zipped", [True])
@pytest.mark.parametrize("content", [None, b"", OTHER * 2])
def test_an_unpacked_file_that_is_not_ours_is_unpacked_again(
    write: Callable[[bytes], Path], zipped: bool, content: bytes | None
) -> None:
    path = write(GOOD * 2)
    Corpus.read(path)
    if content is None:
        unpacked_of(path).unlink()
    else:
        unpacked_of(path).write_bytes(content)
    assert rows_of(Corpus.read(path)) == [GOOD.strip()] * 2
    assert unpacked_of(path).read_bytes() == GOOD * 2


def test_a_refused_file_leaves_nothing(write: Callable[[bytes], Path]) -> None:
    path = write(GOOD * 3 + b"{broken\n" + GOOD)
    for _ in range(2):
        with pytest.raises(CorpusError, match="line 4: not valid JSON"):
            Corpus.read(path)
    assert kept_beside(path) == set()


def test_what_a_killed_process_left_is_overwritten(write: Callable[[bytes], Path], zipped: bool) -> None:
    path = write(GOOD * 2)
    for kept in (offsets_of(path), unpacked_of(path)):
        kept.with_name(kept.name + ".part").write_bytes(b"x" * 10_000)
    assert rows_of(Corpus.read(path)) == [GOOD.strip()] * 2
    assert offsets_of(path).stat().st_size < 1_000
    if zipped:
        assert unpacked_of(path).read_bytes() == GOOD * 2
        assert kept_beside(path) == {offsets_of(path).name, unpacked_of(path).name}


def test_processes_that_start_together_build_once(write: Callable[[bytes], Path], zipped: bool) -> None:
    path = write(GOOD * 50_000)
    script = (
        "import sys; from pathlib import Path; from slime_search.retrieval.corpus import Corpus; told = [];"
        "corpus = Corpus.read(Path(sys.argv[1]), lambda done, total: told.append(done));"
        "print(len(corpus), len(told), corpus.row(len(corpus) - 1).decode())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = sorted(process.communicate(timeout=60)[0].split(maxsplit=2) for process in processes)
    assert outputs == [["50000", told, GOOD.decode()] for told in ("0", "0", "0", "5")]
    assert kept_beside(path) == {offsets_of(path).name} | ({unpacked_of(path).name} if zipped else set())


@pytest.fixture
def unwritable(write: Callable[[bytes], Path]) -> Iterator[Path]:
    """The corpus under a name in a folder in which no user can create files."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs Linux's /proc")
    with write(GOOD * 2).open("rb") as file:
        yield Path(f"/proc/self/fd/{file.fileno()}")


def test_the_cache_folder_is_used_where_the_corpus_lies_in_an_unwritable_one(
    unwritable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert rows_of(Corpus.read(unwritable)) == [GOOD.strip()] * 2
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "cache" / "slime-search").iterdir()}
    assert kept
    assert rows_of(Corpus.read(unwritable)) == [GOOD.strip()] * 2
    assert {path.name: path.stat().st_ino for path in (tmp_path / "cache" / "slime-search").iterdir()} == kept


def test_no_writable_place_is_one_clear_message(unwritable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self/fd")
    with pytest.raises(CorpusError, match=r"no place to keep its offsets \(/proc.*; set XDG_CACHE_HOME to a folder"):
        Corpus.read(unwritable)


def test_memory_stays_far_below_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    row = json.dumps({"contents": "word " * 20_000}).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(3_000):
            file.write(row)
    script = (
        "import resource, sys; from pathlib import Path; from slime_search.retrieval.corpus import Corpus;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024; before = peak();"
        "corpus = Corpus.read(Path(sys.argv[1])); print(sum(map(len, corpus.texts())), peak() - before)"
    )
    output = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    characters, growth = map(int, output.stdout.split())
    assert characters == 3_000 * 100_000
    assert growth < path.stat().st_size / 2
