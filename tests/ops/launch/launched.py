"""A tmux server of the test's own, a corpus, and the wrapper as its users run it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import command_lines, free_port, is_open, wait_until

WRAPPER = Path(__file__).parents[3] / "examples/search_r1/run_with_retrieval.sh"


class Site:
    """One user's folder and tmux server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "TMUX_TMPDIR": str(folder),
            "LOG_DIR": str(folder / "logs"),
            "CORPUS_PATH": str(folder / "corpus.jsonl"),
            "RETRIEVER_NAME": "bm25",
            "RETRIEVAL_SERVER_URL": f"http://127.0.0.1:{free_port()}",
            "PYTHON": sys.executable,
            "STOP_TIMEOUT": "5",
            # As on many clusters: whatever is asked through it fails.
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        }
        for name in ("TMUX", "no_proxy", "NO_PROXY"):
            self.environment.pop(name, None)
        rows = [{"id": str(n), "contents": f'"title {n}"\ntext {n}'} for n in range(20)]
        (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.running: list[subprocess.Popen[str]] = []

    def script(self, name: str, body: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def start(
        self, *arguments: str, program: Sequence[str] = (str(WRAPPER),), **variables: str
    ) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*program, *arguments], env=self.environment | variables, stdout=pipe, stderr=pipe, text=True
        )
        self.running.append(process)
        return process

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", *arguments], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def sessions(self) -> list[str]:
        return self.tmux("list-sessions", "-F", "#{session_name}").split()

    def log(self, kind: str) -> str:
        return "".join(path.read_text() for path in sorted((self.folder / "logs").glob(f"{kind}_*.log")))

    def port_is_free(self) -> bool:
        return not is_open(int(self.environment["RETRIEVAL_SERVER_URL"].rpartition(":")[2]))

    def assert_nothing_is_left(self) -> None:
        assert self.sessions() == []
        wait_until(self.port_is_free)
        wait_until(lambda: not command_lines(self.folder))

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        self.tmux("kill-server")
