"""The Searcher service as a process, and the servers that it depends on."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.support.policies import question_number
from tests.support.processes import free_port
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.thinkers import SEARCHER


def policy(context: str) -> str:
    """The Searcher's, and a word in answer to the service's own check of the engine."""
    return SEARCHER(context) if "thing-" in context else "Yes."


class Backends:
    """The frozen model's engine and the retriever."""

    def __init__(self, tokenizer: Any) -> None:
        self.engine = ScriptedEngine(tokenizer, policy)
        self.retriever = ScriptedRetriever(passage)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.engine)
        self._stack.enter_context(self.retriever)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def exchanges(self, number: int) -> list[Any]:
        """The engine's requests about one thing."""
        about = [one for one in self.engine.exchanges if "thing-" in one.prompt]
        return [one for one in about if question_number(one.prompt) == number]


class Service:
    """The process, which ends with this object's pipe to its stdin."""

    def __init__(self, checkpoint: Path, backends: Backends, *options: str, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "slime_search.cli", "serve-searcher", "--model", str(checkpoint)]
        command += ["--engine-url", backends.engine.url, "--port", str(self.port), "--exit-with-parent", *options]
        # Two attempts, without the waits that a real outage needs.
        settings = {
            "SLIME_SEARCH_LOCAL__SEARCH_URL": backends.retriever.search_url,
            "SLIME_SEARCH_SEARCH_ATTEMPTS": "1",
            "SLIME_SEARCH_ENGINE_ATTEMPTS": "1",
        }
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ | settings | variables
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"searcher ready at {self.url}\n", line or self.process.communicate(timeout=150)

    def request(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and parsed answer; a body that is not bytes is sent as JSON."""
        status, content = self.exchange(path, body)
        return status, json.loads(content)

    def exchange(self, path: str, body: Any = None) -> tuple[int, bytes]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=150) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def ask(self, *numbers: int, **fields: Any) -> tuple[int, Any]:
        return self.request("/search", {"queries": [f"Who made thing-{n}?" for n in numbers], **fields})

    def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics`` by its name, without our prefix, and labels."""
        _, content = self.exchange("/metrics")
        lines = [line.rpartition(" ") for line in content.decode().splitlines() if not line.startswith("#")]
        return {name.removeprefix("slime_search_searcher_"): float(value) for name, _, value in lines}

    def end(self) -> tuple[int, str, str]:
        """Closes its stdin; returns its exit code, stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=150)
        return self.process.returncode, stdout, stderr
