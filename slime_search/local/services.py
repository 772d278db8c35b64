"""Server processes that live exactly as long as the code that needs them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from slime_search.errors import SlimeSearchError
from slime_search.transport.readiness import ask

# glibc hands large buffers back to the kernel after each use and OpenMP threads spin while they wait; on two cores
# both cost more than the small model's arithmetic.
CPU_ENV = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}


def restart_with_cpu_env(module: str) -> None:
    """Starts this process again, as ``python -m module`` with its arguments, unless it has the settings, which take
    effect only at a process's start."""
    if any(name not in os.environ for name in CPU_ENV):
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**CPU_ENV, **os.environ})


POLL_S = 0.1
STOP_TIMEOUT_S = 5.0


class ServiceDied(SlimeSearchError):
    """A server of ours ended, or did not become ready; the message ends with its last log lines."""


class LocalService:
    """A server as a child process, for use in a ``with`` block.

    The child gets a session of its own, so that Ctrl-C in the terminal reaches only the parent, which then stops it in
    order; and its standard input is a pipe that closes with the parent, so that it ends even when the parent is killed.

    Args:
        name: how messages call it.
        command: program and arguments; must understand ``--exit-with-parent``.
        ready_url: answers 200 once the server is ready.
        log_path: where its output goes.
        env: variables added to the environment.
    """

    stop_timeout_s = STOP_TIMEOUT_S

    def __init__(
        self, name: str, command: Sequence[str], *, ready_url: str, log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._command = [*command, "--exit-with-parent"]
        self._ready_url = ready_url
        self._log_path = log_path
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._env,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait_ready(self, timeout_s: float = 600.0) -> None:
        """Blocks until the server is ready.

        Raises:
            ServiceDied: it ended first, or took longer than ``timeout_s``.
        """
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None:
                raise ServiceDied(f"the {self._name} ended with exit code {self._process.returncode}.\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ServiceDied(f"the {self._name} was not ready after {timeout_s:.0f} s.\n{self._tail()}")
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        return ask(self._ready_url).ready

    def _tail(self, lines: int = 15) -> str:
        log = self._log_path.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"Last lines of {self._log_path}:", *log])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
