"""``--attach``: the session in the terminal of the one who started it."""

import io
import os
import subprocess
import threading
from contextlib import suppress

from rich.console import Console

_PATIENCE_S = 5


class Viewer:
    """tmux's client, in a process of its own: whoever leaves the session leaves the run as it is.

    Args:
        session: its name.
        console: what is printed there while the client has the terminal is held back until it gives it back.
    """

    def __init__(self, session: str, console: Console) -> None:
        self._session = session
        self._console = console
        self._client: subprocess.Popen[bytes] | None = None
        self._waiting: threading.Thread | None = None

    def show(self) -> None:
        """Returns at once."""
        terminal = self._console.file
        self._console.file = held = io.StringIO()
        verb = "switch-client" if "TMUX" in os.environ else "attach-session"
        self._client = client = subprocess.Popen(["tmux", verb, "-t", f"={self._session}"])

        def tell_after_it() -> None:
            client.wait()
            self._console.file = terminal
            terminal.write(held.getvalue())

        self._waiting = threading.Thread(target=tell_after_it, daemon=True)
        self._waiting.start()

    def close(self) -> None:
        """After the session's end, which ends the client too, unless tmux is set to show another session then."""
        if self._client is None or self._waiting is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._client.wait(_PATIENCE_S)
        self._client.terminate()
        self._waiting.join()
