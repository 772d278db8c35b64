"""The few things that are asked of tmux."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from slime_search.errors import SlimeSearchError
from slime_search.ops.launch.settings import Command

OWNER = "@slime_search_owner"
"""The session option that holds the identity of the process that started it."""


class TmuxError(SlimeSearchError):
    """tmux did not do what it was asked; the message is its own."""


class Pane(NamedTuple):
    """A window's only pane. The first process in it leads a process group of its own."""

    id: str
    pid: int
    environment: Path
    """The file that tells it its environment; it is there until the pane has read it."""


def is_installed() -> bool:
    return shutil.which("tmux") is not None


def tmux(*arguments: str) -> str:
    """What a tmux command prints. Raises TmuxError."""
    done = subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TmuxError(f"tmux {arguments[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.strip()


def owner_of(session: str) -> str | None:
    """Who started a session; None where there is none, and "" for one that somebody else made."""
    try:
        tmux("has-session", "-t", f"={session}")
        return tmux("show-options", "-qv", "-t", f"={session}:", OWNER)
    except TmuxError:
        return None


def start_session(session: str, owner: str, window: str, command: Command, log: Path) -> Pane:
    """Makes a detached session whose first window runs ``command``. Raises TmuxError."""
    target = f"={session}:"
    new = ("new-session", "-d", "-x", "200", "-y", "50", "-s", session, "-n", window)
    return _start(new, target, command, log, ";", "set-option", "-t", target, OWNER, owner)


def start_window(session: str, window: str, command: Command, log: Path) -> Pane:
    """Adds a window to a session. Raises TmuxError."""
    return _start(("new-window", "-d", "-t", f"={session}:", "-n", window), f"={session}:{window}", command, log)


def exit_code(pane: Pane) -> int | None:
    """The code that the pane's command ended with, 128 + n for signal n; None while it runs.

    Raises:
        TmuxError: the pane is gone.
    """
    asked = "#{pane_id}:#{pane_dead}:#{pane_dead_status}:#{pane_dead_signal}:#{pid}"
    pane_id, dead, code, number, server = tmux("display-message", "-p", "-t", pane.id, asked).split(":")
    if pane_id != pane.id:
        raise TmuxError(f"pane {pane.id} was closed")
    if dead != "1":
        return None
    if not (code or number):
        # The terminal closed before tmux heard how its process ended. tmux 3.3a may never hear by itself: it was
        # seen to leave a zombie, which it reaps at the next SIGCHLD.
        with suppress(ProcessLookupError):
            os.kill(int(server), signal.SIGCHLD)
        return None
    return 128 + int(number) if number else int(code)


def end(pane: Pane, number: signal.Signals) -> None:
    """Signals the pane's process group, where there still is one."""
    with suppress(ProcessLookupError):
        os.killpg(pane.pid, number)


def _start(new: Sequence[str], target: str, command: Command, log: Path, *more: str) -> Pane:
    """One request, so that the pane is told to stay before its command can have ended."""
    stay = (";", "set-option", "-w", "-t", target, "remain-on-exit", "on")
    environment = _keep_environment(command.environment)
    # Several words are run as they are; one would be given to the user's login shell, whichever that is.
    line = ["bash", "-c", _IN_PANE, str(environment), str(log), *command.line]
    try:
        printed = tmux(*new, "-P", "-F", "#{pane_id} #{pane_pid}", *map(_literal, line), *stay, *more)
    except BaseException:
        environment.unlink(missing_ok=True)
        raise
    pane_id, pid = printed.split()
    return Pane(pane_id, int(pid), environment)


def _literal(word: str) -> str:
    """tmux takes a semicolon at a word's end as the end of a command."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


_IN_PANE = """
source "$0"; log=$1; shift
exec > >(trap "" HUP INT TERM; rm -f "$0"; exec tee -a "$log") 2>&1
while [[ -e $0 ]]; do sleep 0.01; done
exec "$@"
"""
"""Takes this process's environment, not the tmux server's; what is printed goes to the pane and to the log.

tee has to be deaf to signals before a command starts that may end at once: the end of the pane's first process hangs up
on all others. It says so by deleting the file.
"""


def _keep_environment(added: Mapping[str, str]) -> Path:
    """A file that only this user can read, which the pane deletes: an environment holds secrets."""
    environment = {**os.environ, **added}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if _may_pass(name)]
    number, name = tempfile.mkstemp(prefix="slime-search-")
    with os.fdopen(number, "w") as file:
        file.write("\n".join(lines))
    return Path(name)


_OF_BASH = {"UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS"}
"""Variables that bash does not let anyone set."""


def _may_pass(name: str) -> bool:
    return name.isidentifier() and name.isascii() and not name.startswith(("TMUX", "BASH_")) and name not in _OF_BASH
