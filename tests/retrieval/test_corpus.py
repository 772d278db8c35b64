import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.errors import CorpusError

GOOD = b'{"id": "0", "contents": "red fox"}\n'


def read(path: Path, content: bytes) -> Corpus:
    path.write_bytes(content)
    return Corpus.read(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "corpus.jsonl"


def test_rows_are_kept_to_the_byte(path: Path) -> None:
    lines = [b'{"b": 1.50, "id": 123456789012345678901234567890, "contents": "caf\\u00e9"}', GOOD.strip()]
    corpus = read(path, b"\n".join(lines))
    assert [corpus.row(index) for index in range(len(corpus))] == lines


def test_text_is_contents_or_title_and_text(path: Path) -> None:
    rows = [
        {"contents": "a", "text": "b", "title": "c"},
        {"text": "b", "title": "c"},
        {"text": "b"},
        {"contents": None, "title": "", "text": "b"},
    ]
    assert list(read(path, "\n".join(map(json.dumps, rows)).encode()).texts()) == ["a", "c\nb", "b", "b"]


@pytest.mark.parametrize("content", [GOOD * 2, b"\xef\xbb\xbf" + GOOD + b"\r\n \n" + GOOD.strip() + b"\r\n\n"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_plain_gzipped_bom_crlf_and_blank_lines(path: Path, content: bytes, compress: type[bytes]) -> None:
    corpus = read(path, compress(content))
    assert [corpus.row(index) for index in range(len(corpus))] == [GOOD.strip()] * 2


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1), ascii_only=st.booleans())
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str], ascii_only: bool) -> None:
    lines = [json.dumps({"contents": text}, ensure_ascii=ascii_only) for text in texts]
    corpus = read(tmp_path_factory.mktemp("corpus") / "c.jsonl", "\n".join(lines).encode())
    assert list(corpus.texts()) == texts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "1", "contents": "re', "not valid JSON"),
        (b"{'contents': 'red'}", "not valid JSON"),
        (b'{"contents": "\xff"}', "not valid JSON.*UTF-8"),
        (b'["red"]', "not a JSON object"),
        (b'"red"', "not a JSON object"),
        (b'{"id": "1"}', r"no text.*\['id'\]"),
        (b'{"id": "1", "contents": " "}', "no text"),
        (b'{"id": "1", "contents": 5}', "no text"),
        (b'{"title": "red"}', "no text"),
    ],
)
def test_a_bad_line_is_named(path: Path, line: bytes, reason: str) -> None:
    with pytest.raises(CorpusError, match=rf"corpus\.jsonl, line 4: .*{reason}.*(delete the line|one object a line)"):
        read(path, GOOD + b"\n" + GOOD + line + b"\n" + GOOD)


def test_an_empty_file_is_refused(path: Path) -> None:
    with pytest.raises(CorpusError, match="no passages; write one JSON object a line"):
        read(path, b"\n\n")


def test_damaged_gzip_data_is_refused(path: Path) -> None:
    with pytest.raises(CorpusError, match=r"packed data is damaged after line 0 .*compress the file again"):
        read(path, gzip.compress(GOOD)[:-10])


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: No such file or directory; name a readable"):
        Corpus.read(path)
    with pytest.raises(CorpusError, match="Is a directory"):
        Corpus.read(path.parent)


def test_progress_is_told_in_bytes(path: Path) -> None:
    path.write_bytes(GOOD * 25_000)
    told: list[tuple[int, int]] = []
    Corpus.read(path, lambda done, total: told.append((done, total)))
    assert len(told) == 2
    assert 0 < told[0][0] < told[1][0] <= told[0][1] == told[1][1] == path.stat().st_size


def packed(name: str, content: bytes, mode: Literal["w", "w:gz"]) -> bytes:
    """A tar with a folder and, where there is a name, a file in it."""
    with io.BytesIO() as target:
        with tarfile.open(fileobj=target, mode=mode) as tar:
            folder = tarfile.TarInfo("data00")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            if name:
                member = tarfile.TarInfo(f"data00/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return target.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_first_file_of_a_tar_is_the_corpus(path: Path, mode: Literal["w", "w:gz"]) -> None:
    path.write_bytes(packed("wiki_dump.jsonl", GOOD * 3, mode))
    for _ in range(2):
        assert [Corpus.read(path).row(index) for index in range(3)] == [GOOD.strip()] * 3


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_without_a_corpus_or_cut_short_is_refused(path: Path, mode: Literal["w", "w:gz"]) -> None:
    path.write_bytes(packed("", b"", mode))
    with pytest.raises(CorpusError, match="a tar without a file"):
        Corpus.read(path)
    path.write_bytes(packed("wiki_dump.jsonl", GOOD * 30_000, "w")[:600_000])
    with pytest.raises(CorpusError, match="damaged after line"):
        Corpus.read(path)
