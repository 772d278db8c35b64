import gzip
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slime_search.cli.serve_retriever import app
from slime_search.retrieval.server import open_listener
from tests.retrieval.retrieval_process import Server
from tests.support.processes import free_port, is_open, wait_until

Start = Callable[..., Server]


@pytest.fixture
def loading_server(tmp_path: Path, start_server: Start) -> tuple[Server, Path]:
    """A server that waits for its corpus, which is a pipe that nobody has opened for writing."""
    pipe = tmp_path / "corpus.jsonl"
    os.mkfifo(pipe)
    port = free_port()
    server = start_server(pipe, "--port", str(port))
    server.url = f"http://127.0.0.1:{port}"
    wait_until(lambda: is_open(port))
    return server, pipe


def test_answers_503_with_progress_until_the_corpus_is_loaded(loading_server: tuple[Server, Path]) -> None:
    server, pipe = loading_server
    loading = (503, {"status": "loading", "step": "reading the corpus", "done": 0, "total": None})
    assert server.request("/health") == (200, {"status": "ok"})
    assert server.request("/ready") == loading
    assert server.request("/retrieve", {"queries": ["red"]}) == loading
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}/ready")
    with refused.value:
        assert refused.value.headers["Retry-After"] == "1"

    pipe.write_text('{"id": 1, "contents": "red fox"}\n' * 2)
    assert server.wait_until_ready() == f"retriever ready at {server.url} (2 passages)\n"
    assert server.request("/ready") == (200, {"status": "ready", "passages": 2})
    assert server.request("/retrieve", {"queries": ["red"]})[0] == 200
    assert server.end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_server_that_is_loading(loading_server: tuple[Server, Path], number: int) -> None:
    loading_server[0].process.send_signal(number)
    assert loading_server[0].process.wait(30) == 0
    assert loading_server[0].end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_server_with_open_connections(corpus_path: Path, start_server: Start, number: int) -> None:
    server = start_server(corpus_path, "--port", "0")
    server.wait_until_ready()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
    assert server.end() == (0, "", "")


def test_no_server_outlives_a_killed_parent(corpus_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "serve-retriever",
        "--corpus-path",
        str(corpus_path),
        "--port",
        "0",
    ]
    script = (
        f"import subprocess, time; subprocess.Popen({[*command, '--exit-with-parent']!r}, stdin=-1); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("retriever ready")
    parent.kill()
    # The server holds the other end of this pipe, so the end of the output is the end of the server.
    assert parent.communicate(timeout=30) == ("", None)


def test_stdin_is_not_watched_unless_asked(corpus_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "serve-retriever",
        "--corpus_path",
        str(corpus_path),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        with urllib.request.urlopen(f"{url}/health") as response:
            assert response.status == 200
        process.terminate()
        assert process.wait(30) == 0


def test_gzipped_corpus_is_served(tmp_path: Path, start_server: Start) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"title": "red", "text": "fox"}).encode()))
    server = start_server(path, "--port", "0")
    server.wait_until_ready()
    answer = server.request("/retrieve", {"queries": ["red fox", "fox"]})
    assert answer == (200, {"result": [[{"title": "red", "text": "fox"}]] * 2})


def test_serving_options_are_taken(corpus_path: Path, start_server: Start) -> None:
    options = ("--queue_size", "1", "--deadline", "30", "--cache-mb", "0", "--topk", "1")
    server = start_server(corpus_path, "--port", "0", *options)
    server.wait_until_ready()
    answers = [server.request("/retrieve", {"queries": ["red", "fox"]}) for _ in range(2)]
    assert [len(hits) for hits in answers[0][1]["result"]] == [1, 1]
    assert answers[0] == answers[1]
    assert server.metrics()["cache_hits_total"] == 0


def test_more_files_than_the_soft_limit_may_be_open(corpus_path: Path, start_server: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        server = start_server(corpus_path, "--port", "0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait_until_ready()
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] > 256


def test_a_port_in_use_is_one_clear_message(corpus_path: Path, start_server: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stdout, stderr = start_server(corpus_path, "--port", str(port)).end()
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: can't listen: Address already in use")
    assert str(port) in stderr
    assert stderr.endswith("choose another --port (0 takes any free one) or another --host\n")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; name a readable JSON Lines file"),
        ('{"contents": "red"}\n{"id": 1}\n', "line 2: no text"),
        ('{"contents": "—"}\n', "nothing to index: no text holds a word"),
    ],
)
def test_a_bad_corpus_is_one_clear_message(
    tmp_path: Path, start_server: Start, content: str | None, message: str
) -> None:
    path = tmp_path / "corpus.jsonl"
    if content is not None:
        path.write_text(content)
    server = start_server(path, "--port", "0")
    assert server.process.wait(30) == 1
    _, stdout, stderr = server.end()
    assert stdout == ""
    assert stderr.startswith(f"error: {path}")
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--topk", "0"],
        ["--port", "65536"],
        ["--retriever_name", "e6"],
        ["--queue-size", "0"],
        ["--deadline", "0"],
        ["--deadline", "nan"],
        ["--cache_mb", "-1"],
    ],
)
def test_bad_options_are_refused(corpus_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(app, ["--corpus_path", str(corpus_path), *options])
    assert result.exit_code == 2
    assert options[0] in result.output


def test_answers_are_not_held_back_for_acknowledgements() -> None:
    with (
        open_listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_server_imports_no_agent_and_nothing_heavy() -> None:
    script = "import sys, slime_search.cli.serve_retriever; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    rooms = {name.split(".")[1] for name in modules if name.startswith("slime_search.")}
    assert rooms == {"cli", "errors", "files", "retrieval", "transport", "validation"}
    assert not {"torch", "transformers", "pandas", "matplotlib", "ray"} & set(modules)


def test_what_an_encoder_needs_is_named_where_it_is_missing(corpus_path: Path) -> None:
    without_torch = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in ('torch', 'faiss') else find(name, *rest)\n"
        "from slime_search.cli.serve_retriever import app\n"
        "app()\n"
    )
    options = ["--corpus_path", corpus_path, "--retriever_name", "e5", "--index_path", "i", "--retriever_model", "m"]
    command = [sys.executable, "-c", without_torch, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: torch, faiss not installed")
    assert "pip install 'slime-search[retrieval]'" in done.stderr
