"""Servers for the search clients of other projects."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.client_server import CORPUS, serve
from tests.support.processes import free_port, wait_until


@pytest.fixture(scope="session")
def search_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``/retrieve`` of a server process that searches ROWS with BM25."""
    corpus = tmp_path_factory.mktemp("clients") / "corpus.jsonl"
    corpus.write_text(CORPUS)
    with serve(corpus, 0) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[3] + "/retrieve"
        process.kill()


@pytest.fixture
def loading_url(tmp_path: Path) -> Iterator[str]:
    """``/retrieve`` of a server that answers the first request 503, and gets its corpus then."""
    pipe = tmp_path / "corpus.jsonl"
    os.mkfifo(pipe)
    port = free_port()
    with serve(pipe, port) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/health"))
        threading.Thread(target=_feed_after_a_refusal, args=(f"{url}/metrics", pipe)).start()
        yield f"{url}/retrieve"
        process.kill()


def _answers(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url) as response:
            return bytes(response.read())
    except urllib.error.URLError:
        return b""


def _feed_after_a_refusal(metrics_url: str, pipe: Path) -> None:
    wait_until(lambda: b'requests_total{status="503"}' in _answers(metrics_url))
    pipe.write_text(CORPUS)
