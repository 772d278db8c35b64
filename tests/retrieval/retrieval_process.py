"""A retrieval server process as the tests see it."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Server:
    """A server process that prints its URL when it is ready and ends with this object's pipe to its stdin."""

    def __init__(self, corpus_path: Path, *options: str) -> None:
        command = [sys.executable, "-m", "slime_search.retrieval", "--corpus_path", str(corpus_path), *options]
        self.process = subprocess.Popen(
            [*command, "--exit-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def wait_until_ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("retriever ready at http://"), line or self.process.communicate(timeout=30)
        self.url = line.split()[3]
        return line

    def request(self, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and parsed answer; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def end(self) -> tuple[int, str, str]:
        """Closes the server's stdin; returns its exit code, stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=30)
        return self.process.returncode, stdout, stderr
