"""Starts the retriever, then the training, and sees both end."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from slime_search.launch import readiness, tmux
from slime_search.launch.settings import LaunchSettings

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
    """One session with the two windows.

    Args:
        settings: what is run.
        retriever: its command; None where the server is somebody else's.
        training: its command.
        console: where progress is told.
    """

    def __init__(
        self, settings: LaunchSettings, retriever: Sequence[str] | None, training: Sequence[str], console: Console
    ) -> None:
        now = f"{datetime.now():%Y%m%d_%H%M%S}"
        self._settings = settings
        self._retriever = retriever
        self._training = training
        self._console = console
        self._retriever_log = settings.log_dir / f"retrieval_server_{now}.log"
        self._training_log = settings.log_dir / f"training_{now}.log"
        self._owner = str(os.getpid())
        self._panes: list[tmux.Pane] = []

    def run(self, on_session: Callable[[], None] = lambda: None) -> int:
        """The training's exit code; 128 + n where signal n ended it all. Whatever was started has ended then.

        Args:
            on_session: called once there is a session to look at.

        Raises:
            LaunchFailed: the retriever did not get ready, or its process ended before the training did.
        """
        self._settings.log_dir.mkdir(parents=True, exist_ok=True)
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
        session = self._settings.session_name
        if self._retriever is not None:
            self._panes.append(
                tmux.start_session(session, self._owner, "retriever", self._retriever, self._retriever_log)
            )
            self._console.print(f"retriever: window 0 of tmux session {session}, log {self._retriever_log}")
            on_session()
        self._wait_until_ready()
        if self._panes:
            training = tmux.start_window(session, "training", self._training, self._training_log)
        else:
            training = tmux.start_session(session, self._owner, "training", self._training, self._training_log)
        self._panes.append(training)
        self._console.print(
            f"training: window {len(self._panes) - 1} of tmux session {session}, log {self._training_log}"
        )
        if self._retriever is None:
            on_session()
        tmux.tmux("select-window", "-t", f"={session}:training")
        return self._wait_for(training)

    def _wait_until_ready(self) -> None:
        url, limit_s = self._settings.retrieval_server_url, self._settings.retrieval_timeout
        token = os.environ.get("SLIME_SEARCH_RETRIEVER_TOKEN")
        deadline = time.monotonic() + limit_s
        with self._console.status(f"waiting for {url}") as status:
            while not (state := readiness.ask(url, token)).ready:
                status.update(f"waiting for {url}: {state.state}")
                if self._panes and (code := tmux.exit_code(self._panes[0])) is not None:
                    raise LaunchFailed(f"the retriever ended with code {code} before it was ready{self._last_lines()}")
                if time.monotonic() > deadline:
                    raise LaunchFailed(
                        f"{url} was not ready after {limit_s:g} s: {state.state}; set RETRIEVAL_TIMEOUT to wait longer"
                        f"{self._last_lines()}"
                    )
                time.sleep(_POLL_S)
        self._console.print(f"{url} is ready")

    def _last_lines(self) -> str:
        if self._retriever is None:
            return ""
        time.sleep(_POLL_S)
        lines = self._retriever_log.read_text(errors="replace").splitlines() if self._retriever_log.exists() else []
        return "\n".join([f"\nthe end of {self._retriever_log}:", *lines[-_LOG_LINES:]])

    def _wait_for(self, training: tmux.Pane) -> int:
        while (code := tmux.exit_code(training)) is None:
            if self._retriever is not None and (ended := tmux.exit_code(self._panes[0])) is not None:
                raise LaunchFailed(f"the retriever ended with code {ended} during the training{self._last_lines()}")
            time.sleep(_POLL_S)
        self._console.print(f"training ended with code {code}")
        return code

    def _end(self) -> None:
        end_panes(self._panes, self._settings.stop_timeout)
        if tmux.owner_of(self._settings.session_name) == self._owner:
            tmux.tmux("kill-session", "-t", f"={self._settings.session_name}")


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
