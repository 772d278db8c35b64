"""Downloads from a server that plays the Hub: what arrives, and what is said when it does not."""

import gzip
import os
import resource
from pathlib import Path

import pytest
from rich.progress import Progress, TaskID

from slime_search.retrieval.download.plan import check_room
from slime_search.retrieval.download.store import locked
from slime_search.retrieval.errors import DownloadError
from tests.retrieval.download.downloading import CORPUS, POINT, download, steps_of
from tests.retrieval.download.hub_server import Hub, packed_corpus
from tests.support.loopback import Fault, cut, disconnect, in_order, status

LINES = b'{"id": "0", "contents": "one"}\n{"id": "1", "contents": "two"}\n'


def place(hub: Hub, folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(hub.repos[POINT.repo][name])


@pytest.mark.parametrize("block_bytes", [1, 999, 10**6])
def test_parts_become_one_file(hub: Hub, whole: bytes, folder: Path, block_bytes: int) -> None:
    hub.repos[POINT.repo] = {name: data[:40] for name, data in hub.repos[POINT.repo].items()} | {"other": b"x"}
    hub.repos[POINT.repo]["part_ad"] = b""
    hub.repos[POINT.repo]["part_ae/../../mine"] = b"not a part"
    download(folder, block_bytes=block_bytes)
    assert [path.name for path in folder.iterdir()] == [POINT.target]
    assert (folder / POINT.target).read_bytes() == bytes(range(40)) + b"b" * 40 + b"c" * 7
    assert steps_of(folder) == []


@pytest.mark.parametrize("tar", [True, False])
def test_the_corpus_is_unpacked(hub: Hub, folder: Path, tar: bool) -> None:
    hub.repos[CORPUS.repo] = {CORPUS.target: packed_corpus(LINES, tar=tar)}
    download(folder, corpus=True)
    assert (folder / "corpus.jsonl").read_bytes() == LINES
    assert {path.name for path in folder.iterdir()} == {"corpus.jsonl", POINT.target}


def test_a_corpus_that_gzip_unpacked_is_still_a_tar_file_and_is_unpacked(hub: Hub, whole: bytes, folder: Path) -> None:
    hub.repos[CORPUS.repo] = {}
    (folder / "corpus.jsonl").write_bytes(gzip.decompress(packed_corpus(LINES)))
    download(folder, corpus=True)
    assert (folder / "corpus.jsonl").read_bytes() == LINES
    assert steps_of(folder, corpus=True) == []


@pytest.mark.parametrize("names", [("part_aa",), ("part_ab",), ("part_ac", "part_ab", "part_aa")])
def test_parts_in_the_folder_are_used(hub: Hub, whole: bytes, folder: Path, names: tuple[str, ...]) -> None:
    place(hub, folder, *names)
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole
    assert not [path for path, asked, _ in hub.requests if asked and path.endswith(names)]
    assert len(list(folder.iterdir())) == 1


def test_the_join_needs_room_for_one_part_at_most(hub: Hub, whole: bytes, folder: Path) -> None:
    hub.repos[POINT.repo] = {"part_aa": b"a" * 50_000, "part_ab": b"b" * 20_000, "part_ac": b"c" * 30_000}
    place(hub, folder, *hub.repos[POINT.repo])
    held = []

    class Watching(Progress):
        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            held.append(sum(path.stat().st_size for path in folder.iterdir()))

    needed, _ = check_room(steps_of(folder), folder)
    assert needed == 30_000
    download(folder, progress=Watching(disable=True), block_bytes=1000)
    assert 100_000 + 20_000 < max(held) <= 100_000 + needed
    assert (folder / POINT.target).stat().st_size == 100_000


def test_a_join_that_goes_on_needs_room_for_the_rest_alone(hub: Hub, whole: bytes, folder: Path) -> None:
    place(hub, folder, "part_ab", "part_ac")
    (folder / f"{POINT.target}.partial").write_bytes(whole[: 2048 + 900])
    needed, _ = check_room(steps_of(folder), folder)
    assert needed == 100
    (folder / f"{POINT.target}.partial").write_bytes(whole[:100])
    needed, _ = check_room(steps_of(folder), folder)
    assert needed == 2048 - 100 + 1000


def test_a_download_goes_on_behind_what_is_there(hub: Hub, whole: bytes, folder: Path) -> None:
    (folder / f"{POINT.target}.partial").write_bytes(whole[:2500])
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole
    assert sorted(hub.ranges) == ["bytes=0-6", "bytes=452-751", "bytes=752-999"]


@pytest.mark.parametrize("fault", [status(500), status(429, headers={"Retry-After": "0"}), cut, disconnect])
def test_faults_that_pass_are_waited_out(hub: Hub, whole: bytes, folder: Path, fault: Fault) -> None:
    hub.script = in_order(fault, None, fault, fault, None, fault)
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole


def test_a_failure_keeps_what_has_arrived(hub: Hub, whole: bytes, folder: Path) -> None:
    hub.script = lambda request: status(503) if request.headers.get("Range") == "bytes=900-1199" else None
    with pytest.raises(DownloadError, match=r"part_aa: HTTP 503 \(10 attempts\); run the same command again"):
        download(folder)
    assert (folder / f"{POINT.target}.partial").read_bytes() == whole[:900]
    hub.script = lambda request: None
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole


@pytest.mark.parametrize(("damaged", "kept"), [("part_aa", 0), ("part_ab", 2048), ("part_ac", 3048)])
@pytest.mark.parametrize("local", [True, False])
def test_a_damaged_part_is_thrown_away_and_had_again(
    hub: Hub, whole: bytes, folder: Path, damaged: str, kept: int, local: bool
) -> None:
    files = hub.repos[POINT.repo]
    sound = files[damaged]
    if local:
        (folder / damaged).write_bytes(b"!" + sound[1:])
    else:
        hub.sha256[damaged] = "0" * 64
    with pytest.raises(DownloadError, match=rf"{damaged} arrived damaged.*Run the same command again"):
        download(folder)
    assert (folder / f"{POINT.target}.partial").stat().st_size == kept
    hub.sha256.clear()
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole


def test_files_of_another_size_are_left_alone(hub: Hub, folder: Path) -> None:
    (folder / "part_ab").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"part_ab: has 4 bytes, the Hub's has 1,000; delete it or move it away"):
        download(folder)
    (folder / POINT.target).write_bytes(b"mine too")
    with pytest.raises(DownloadError, match=r"whole\.index: has 8 bytes, the published one 3,055; move it away"):
        download(folder)
    assert (folder / "part_ab").read_bytes() + (folder / POINT.target).read_bytes() == b"minemine too"


def test_a_damaged_archive_is_named(hub: Hub, folder: Path) -> None:
    for broken in (packed_corpus(LINES)[:100], packed_corpus(b"x" * 2000, tar=False)[:20]):
        hub.repos[CORPUS.repo] = {CORPUS.target: broken}
        with pytest.raises(DownloadError, match=r"corpus\.jsonl\.gz\.partial: the archive is damaged .*delete it"):
            download(folder, corpus=True)
        assert not (folder / "corpus.jsonl").exists()
        (folder / f"{CORPUS.target}.partial").unlink()


def test_too_little_room_is_said_in_numbers(hub: Hub, folder: Path) -> None:
    steps = steps_of(folder)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (part, *rest) = steps[0].parts
    huge = steps[0]._replace(parts=[part._replace(size=free * 2), *rest])
    with pytest.raises(DownloadError, match=r" GB are needed and .* GB are free; free .* or name a --save_path"):
        check_room([huge], folder)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(404), "HTTP 404 to a request for a range; another HF_ENDPOINT"),
        (status(403), "HTTP 403 to a request for a range; export an HF_TOKEN"),
        (status(200, text="<html>the whole file</html>"), "HTTP 200 to a request for a range"),
    ],
)
def test_a_refusal_is_final(hub: Hub, folder: Path, fault: Fault, message: str) -> None:
    hub.script = lambda request: fault if "/resolve/" in request.path else None
    with pytest.raises(DownloadError, match=message):
        download(folder, block_bytes=10**6)
    assert len(hub.ranges) == 1


def test_a_hub_without_the_data_set_or_its_parts(hub: Hub, folder: Path) -> None:
    hub.repos[POINT.repo] = {"other": b"x"}
    with pytest.raises(DownloadError, match=r"owner/index at http.*no file is called part_\*"):
        download(folder)
    hub.repos.clear()
    with pytest.raises(DownloadError, match=r"owner/index at http.*not found, or not for you.*HF_TOKEN"):
        download(folder)
    assert len(hub.requests) == 2


def test_the_token_goes_to_the_hub_alone(
    hub: Hub, whole: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Hub() as cdn:
        cdn.repos, hub.cdn = hub.repos, cdn.url
        hub.script = in_order(None, status(500))
        download(folder)
        assert {token for _, _, token in hub.requests} == {"Bearer hf_secret"}
        assert {token for _, _, token in cdn.requests} == {None}
        assert len(cdn.requests) == 12
    assert (folder / POINT.target).read_bytes() == whole
    assert "hf_secret" not in caplog.text


def test_one_download_a_folder(folder: Path) -> None:
    with locked(folder), pytest.raises(DownloadError, match="another download is at work here"), locked(folder):
        raise AssertionError("unreachable")
    with locked(folder):
        pass
    (folder / "file").write_text("")
    with pytest.raises(DownloadError, match="Not a directory; name a --save_path"), locked(folder / "file" / "below"):
        raise AssertionError("unreachable")


def test_a_disk_that_takes_no_more_is_said(hub: Hub, whole: bytes, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DownloadError, match=r"wiki-18: File too large; .* and run again"):
            download(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / f"{POINT.target}.partial").read_bytes() == whole[:1000]
    download(folder)
    assert (folder / POINT.target).read_bytes() == whole
