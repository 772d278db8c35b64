"""Starts services, then the training, and sees them all end."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from rich.console import Console

from slime_search.ops.launch import tmux
from slime_search.ops.launch.settings import Command, Service


def identity(pid: int) -> str | None:
    """``PID:START``, with the start in clock ticks since the machine's; None where no such process is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the name stands in brackets and may hold anything; the start is field 22.
    return f"{pid}:{stat.rpartition(')')[2].split()[19]}"


_POLL_S = 0.2
_LOG_LINES = 20


class LaunchFailed(Exception):
    """The training could not be started; the message says why."""


class Stopped(BaseException):
    """A signal arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Supervisor:
    """One tmux session with a window for each service that is started here, and then one for the training.

    The services start at the same time and in their order; the training starts when all of them are ready.

    Args:
        session_name: the session's.
        services: what the training needs. One that needs another has to wait for it by itself.
        training: the command.
        log_dir: where each window's output is kept, as ``<log_prefix>_<time>.log``.
        stop_timeout: seconds that a process has to end before it is killed.
        console: where progress is printed.
    """

    def __init__(
        self,
        session_name: str,
        services: Sequence[Service],
        training: Command,
        *,
        log_dir: Path,
        stop_timeout: float,
        console: Console,
    ) -> None:
        self._session = session_name
        self._services = services
        self._training = training
        self._log_dir = log_dir
        self._stop_timeout = stop_timeout
        self._console = console
        self._time = f"{datetime.now():%Y%m%d_%H%M%S}"
        self._owner = identity(os.getpid()) or ""
        self._windows: list[_Window] = []

    def run(self, on_session: Callable[[], None] = lambda: None) -> int:
        """The training's exit code; 128 + n where signal n ended it all. Whatever was started has ended then.

        Args:
            on_session: called once there is a session to look at.

        Raises:
            LaunchFailed: a service did not get ready, or its process ended before the training did.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with _signals_raised():
            try:
                return self._run(on_session)
            except tmux.TmuxError as error:
                raise LaunchFailed(str(error)) from None
            except Stopped as stopped:
                self._console.print(f"{signal.Signals(stopped.number).name}: ending what was started")
                return 128 + stopped.number
            finally:
                self._end()

    def _run(self, on_session: Callable[[], None]) -> int:
        for service in self._services:
            if service.command is not None:
                self._open(service.name, service.command, service.log_prefix)
        if self._windows:
            on_session()
        self._wait_until_ready()
        is_first = not self._windows
        training = self._open("training", self._training, "training")
        if is_first:
            on_session()
        tmux.tmux("select-window", "-t", f"={self._session}:training")
        while (code := tmux.exit_code(training.pane)) is None:
            self._check_services("during the training")
            time.sleep(_POLL_S)
        self._console.print(f"training ended with code {code}")
        return code

    def _open(self, name: str, command: Command, log_prefix: str) -> "_Window":
        log = self._log_dir / f"{log_prefix}_{self._time}.log"
        if self._windows:
            pane = tmux.start_window(self._session, name, command, log)
        else:
            pane = tmux.start_session(self._session, self._owner, name, command, log)
        self._windows.append(_Window(name, pane, log))
        number = len(self._windows) - 1
        self._console.print(f"{name}: window {number} of tmux session {self._session}, log {log}", soft_wrap=True)
        return self._windows[-1]

    def _wait_until_ready(self) -> None:
        start = time.monotonic()
        with self._console.status("waiting") as status:
            for service in self._services:
                while not (state := service.readiness()).ready:
                    status.update(f"waiting for the {service.name} at {service.url}: {state.reason}")
                    self._check_services("before all was ready")
                    if time.monotonic() > start + service.timeout_s:
                        raise LaunchFailed(self._too_late(service, state.reason))
                    time.sleep(_POLL_S)
                self._console.print(f"{service.name}: {service.url} is ready")

    def _too_late(self, service: Service, state: str) -> str:
        lines = next((window.last_lines() for window in self._windows if window.name == service.name), "")
        return (
            f"{service.name}: {service.url} was not ready after {service.timeout_s:g} s: {state}; "
            f"set {service.timeout_variable} to wait longer{lines}"
        )

    def _check_services(self, when: str) -> None:
        for window in self._windows[: sum(service.command is not None for service in self._services)]:
            if (code := tmux.exit_code(window.pane)) is not None:
                raise LaunchFailed(f"the {window.name} ended with code {code} {when}{window.last_lines()}")

    def _end(self) -> None:
        end_panes([window.pane for window in self._windows], self._stop_timeout)
        for window in self._windows:
            window.pane.environment.unlink(missing_ok=True)
        if tmux.owner_of(self._session) == self._owner:
            tmux.tmux("kill-session", "-t", f"={self._session}")


class _Window(NamedTuple):
    name: str
    pane: tmux.Pane
    log: Path

    def last_lines(self) -> str:
        """The end of its log, in lines of its own."""
        time.sleep(_POLL_S)
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"\nthe end of {self.log}:", *lines[-_LOG_LINES:]])


def end_panes(panes: Sequence[tmux.Pane], limit_s: float) -> None:
    """Asks the processes in the panes to end, the last one first, and kills what has not after ``limit_s`` seconds."""
    for pane in reversed(panes):
        if not _runs(pane):
            continue
        tmux.end(pane, signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while _runs(pane):
            if time.monotonic() > deadline:
                tmux.end(pane, signal.SIGKILL)
                break
            time.sleep(_POLL_S)


def _runs(pane: tmux.Pane) -> bool:
    """Whether the pane's first process is alive; its number belongs to nobody else while its group has members."""
    try:
        return tmux.exit_code(pane) is None
    except tmux.TmuxError:
        return Path(f"/proc/{pane.pid}").exists() and os.getpgid(pane.pid) == pane.pid


@contextmanager
def _signals_raised() -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP raises Stopped; what follows while it all ends is not heard."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for other in handled:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
