"""The Searcher service as a process: how it starts, what it refuses, and how it ends."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slime_search.cli.serve_searcher import app
from tests.recipes.thinker_searcher.searcher_process import Backends, Service
from tests.support.loopback import status
from tests.support.processes import wait_until
from tests.support.scripted_engine import Abort

Keep = Callable[[Service], Service]


def test_it_waits_for_what_it_needs_and_ends_in_order(backends: Backends, qwen_folder: Path, keep: Keep) -> None:
    backends.engine.script = lambda exchange: status(503, "the model loads")
    backends.retriever.script = lambda lookup: status(503)
    service = keep(Service(qwen_folder, backends, "--sessions", "1", "--queue-size", "1"))
    wait_until(lambda: answers(service))
    assert service.request("/health") == (200, {"status": "ok"})
    wait_until(lambda: "the model loads" in service.request("/ready")[1]["error"]["message"])
    code, body = service.request("/ready")
    assert (code, body["status"], body["step"]) == (503, "loading", "waiting for the engine")
    assert service.ask(1)[0] == 503
    backends.engine.script = lambda exchange: None
    wait_until(lambda: service.request("/ready")[1]["step"] == "waiting for the retriever")
    backends.retriever.script = lambda lookup: None
    service.wait_until_ready()
    assert service.request("/ready") == (200, {"status": "ready"})

    # One is answered at a time, one may wait, and a third is refused.
    backends.engine.script = lambda exchange: Abort(0, held=True)
    answered: list[tuple[int, Any]] = []
    asking = [threading.Thread(target=lambda n=n: answered.append(service.ask(n))) for n in (1, 2)]
    for thread in asking:
        thread.start()
    wait_until(lambda: service.metrics()["waiting"] == 1)
    code, body = service.ask(3)
    assert (code, body["error"]["type"]) == (503, "overloaded")

    # It ends when both are answered, and takes nothing new until then.
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: service.request("/ready")[1].get("error", {}).get("type") == "draining")
    assert service.ask(4)[0] == 503
    backends.engine.script = lambda exchange: None
    release(backends)
    for thread in asking:
        thread.join(150)
    assert sorted(code for code, _ in answered) == [200, 503]
    code, stdout, stderr = service.end()
    assert (code, stdout, stderr) == (0, "", "")


def release(backends: Backends) -> None:
    """Ends what the engine holds, which counts as aborted."""
    import urllib.request

    with urllib.request.urlopen(f"{backends.engine.url}/abort_request", b"{}"):
        pass


def answers(service: Service) -> bool:
    assert service.process.poll() is None, service.end()
    try:
        return service.request("/health")[0] == 200
    except OSError:
        return False


def test_an_engine_that_speaks_another_protocol_is_named(backends: Backends, qwen_folder: Path, keep: Keep) -> None:
    service = keep(Service(qwen_folder, backends, "--engine-api", "openai"))
    code, _, stderr = service.end()
    assert code == 1
    assert stderr.startswith(f"error: searcher's engine at {backends.engine.url}/v1/completions: HTTP 404")


@pytest.fixture
def same_signals() -> Iterator[None]:
    """The command changes what signals do to this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("same_signals")
def test_what_does_not_fit_is_named(tmp_path: Path, qwen_folder: Path) -> None:
    nothing = CliRunner().invoke(app, ["--model", str(tmp_path)])
    assert nothing.exit_code == 1
    assert f"error: --model {tmp_path}: no tokenizer can be read from it" in nothing.output
    unknown = CliRunner(env={"SLIME_SEARCH_SEARCHER_MAX_TURN": "3"}).invoke(app, ["--model", str(qwen_folder)])
    assert unknown.exit_code == 1
    assert "did you mean SLIME_SEARCH_SEARCHER_MAX_TURNS" in unknown.output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        busy = CliRunner().invoke(app, ["--model", str(qwen_folder), "--port", port])
    assert busy.exit_code == 1
    assert "can't listen" in busy.output and "--port" in busy.output
