"""A retrieval server process as the tests see it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any, Self


class Server:
    """A server process that prints its URL when it is ready and ends with this object's pipe to its stdin.

    ``program`` is what Python runs, with the arguments that say what to serve.
    """

    def __init__(self, *program: str | Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (env or {}),
        )
        self.url = ""

    @classmethod
    def of_corpus(cls, corpus_path: Path, *options: str, env: dict[str, str] | None = None) -> Self:
        module = ("-m", "slime_search.cli", "serve-retriever", "--exit-with-parent", "--corpus_path")
        return cls(*module, corpus_path, *options, env=env)

    def wait_until_ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("retriever ready at http://"), line or self.process.communicate(timeout=30)
        self.url = line.split()[3]
        return line

    def request(self, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and parsed answer; a body that is not bytes is sent as JSON."""
        status, _, content = self.exchange(path, body, {"Content-Type": content_type})
        return status, json.loads(content)

    def exchange(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Message, bytes]:
        """Status, headers and content."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"} | dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics`` by its name, without our prefix, and labels."""
        _, _, content = self.exchange("/metrics")
        lines = [line for line in content.decode().splitlines() if not line.startswith("#")]
        return {name.removeprefix("slime_search_retriever_"): float(value) for name, value in map(str.split, lines)}

    def end(self) -> tuple[int, str, str]:
        """Closes the server's stdin; returns its exit code, stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=30)
        return self.process.returncode, stdout, stderr
