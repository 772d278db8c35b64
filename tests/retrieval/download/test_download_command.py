"""The command that people know from Search-R1."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.retrieval.download.hub_server import Hub, packed_corpus
from tests.support.loopback import hang
from tests.support.processes import wait_until

SCRIPT = Path(__file__).parents[3] / "examples" / "search_r1" / "local_dense_retriever" / "download.py"
LINES = b'{"id": "0", "contents": "one"}\n'


@pytest.fixture
def published(hub: Hub) -> Hub:
    """The Hub, with small files under the names of the real ones."""
    hub.repos = {
        "PeterJinGo/wiki-18-e5-index": {"part_aa": b"a" * 5000, "part_ab": b"b" * 500},
        "PeterJinGo/wiki-18-e5-index-HNSW64": {"part_aa": b"h" * 100, "part_ab": b"n" * 10},
        "PeterJinGo/wiki-18-corpus": {"wiki-18.jsonl.gz": packed_corpus(LINES)},
    }
    return hub


def command(hub: Hub, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"HF_ENDPOINT": hub.url, "COLUMNS": "200"}
    argv = [sys.executable, str(SCRIPT), "--save_path", str(folder), *options]
    return subprocess.run(argv, capture_output=True, text=True, env=environment)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".download.lock"}


def test_everything_is_there_with_one_command(published: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "wiki"
    planned = command(published, folder, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "part_aa, part_ab" in planned.stdout and "of disk needed" in planned.stdout and "free in" in planned.stdout
    assert files(folder) == {}
    done = command(published, folder)
    assert done.returncode == 0, done.stderr
    assert files(folder) == {"wiki-18.jsonl": LINES, "e5_Flat.index": b"a" * 5000 + b"b" * 500}
    asked = len(published.ranges)
    again = command(published, folder)
    assert again.returncode == 0 and "Everything is there" in again.stdout
    assert len(published.ranges) == asked


def test_only_what_is_wanted(published: Hub, tmp_path: Path) -> None:
    assert command(published, tmp_path, "--index", "hnsw64", "--no-corpus").returncode == 0
    assert files(tmp_path) == {"e5_HNSW64.index": b"h" * 100 + b"n" * 10}
    assert command(published, tmp_path, "--index", "none").returncode == 0
    assert set(files(tmp_path)) == {"e5_HNSW64.index", "wiki-18.jsonl"}


def test_a_failure_is_one_line_and_an_exit_code(published: Hub, tmp_path: Path) -> None:
    published.sha256["part_ab"] = "0" * 64
    failed = command(published, tmp_path, "--no-corpus")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ") and len(failed.stderr.splitlines()) == 1
    assert "part_ab arrived damaged" in failed.stderr


def test_ctrl_c_keeps_what_has_arrived(published: Hub, tmp_path: Path) -> None:
    published.script = lambda request: hang if request.path.endswith("part_ab") else None
    argv = [sys.executable, str(SCRIPT), "--save_path", str(tmp_path), "--no-corpus"]
    environment = os.environ | {"HF_ENDPOINT": published.url}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    wait_until(lambda: any("part_ab" in path for path, _, _ in published.requests))
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint == "Interrupted. The same command goes on from here.\n"
    assert files(tmp_path) == {"e5_Flat.index.partial": b"a" * 5000}
