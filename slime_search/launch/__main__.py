"""``python -m slime_search.launch``: what ``run_with_retrieval.sh`` runs."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from slime_search.launch import tmux
from slime_search.launch.checks import problems
from slime_search.launch.settings import LaunchSettings
from slime_search.launch.supervisor import LaunchFailed, Supervisor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)


@app.command()
def main(
    training: Annotated[list[str] | None, typer.Argument(help="Options of the training script, after --.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the commands.")] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Show the session.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the session that runs.")] = False,
    own_script: Annotated[bool, typer.Option("--own-script", hidden=True)] = False,
) -> None:
    """Runs a training with its retrieval server in one tmux session, as the environment says."""
    settings = _settings()
    if stop:
        raise typer.Exit(_stop(settings.session_name, settings.stop_timeout))
    found = list(problems(settings, own_script=own_script))
    for problem in found:
        console.print(f"[{'red' if problem.fatal else 'yellow'}]{escape(problem.message)}[/]", soft_wrap=True)
    owner = tmux.owner_of(settings.session_name) if not any("tmux" in one.message for one in found) else None
    if owner is not None:
        console.print(
            f"[red]tmux session {settings.session_name} exists already:[/] end it with --stop, or set SESSION_NAME "
            "for a second run",
            soft_wrap=True,
        )
    if owner is not None or any(problem.fatal for problem in found):
        raise typer.Exit(2)
    retriever = settings.retriever_command(sys.executable) if settings.is_local else None
    command = [str(settings.train_script), *(training or ())]
    if dry_run:
        _print_commands(settings, retriever, command)
        return
    os.environ.update(settings.training_environment())
    supervisor = Supervisor(settings, retriever, command, console)
    try:
        code = supervisor.run(lambda: _attach(settings.session_name) if attach else _say_how(settings.session_name))
    except LaunchFailed as error:
        console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        code = 1
    raise typer.Exit(code)


def _settings() -> LaunchSettings:
    try:
        return LaunchSettings()
    except ValidationError as error:
        for part in error.errors():
            name = str(part["loc"][0]).upper()
            console.print(f"[red]{name}:[/] {escape(str(part['input']))}: {escape(part['msg'])}", soft_wrap=True)
        raise typer.Exit(2) from None


def _print_commands(settings: LaunchSettings, retriever: list[str] | None, training: list[str]) -> None:
    if retriever is None:
        console.print(f"# asked only: {settings.retrieval_server_url}/ready")
    else:
        sys.stdout.write(f"{shlex.join(retriever)}\n")
    url = settings.training_environment()["SLIME_SEARCH_LOCAL__SEARCH_URL"]
    sys.stdout.write(f"SLIME_SEARCH_LOCAL__SEARCH_URL={url} {shlex.join(training)}\n")


def _say_how(session: str) -> None:
    console.print(f"look at it with: tmux attach -t {session}")


def _attach(session: str) -> None:
    """In a process of its own, so that leaving the session leaves this one watching."""
    verb = "switch-client" if "TMUX" in os.environ else "attach-session"
    subprocess.Popen(["tmux", verb, "-t", f"={session}"])


def _stop(session: str, limit_s: float) -> int:
    """Tells the process that watches the session, which ends what it started."""
    owner = tmux.owner_of(session)
    if not owner:
        why = "nothing runs there" if owner is None else "it is not one of ours"
        console.print(f"tmux session {session}: {why}")
        return 1
    if "slime_search" not in _command_of(int(owner)):
        console.print(f"tmux session {session}: its watcher is gone; closing it")
        tmux.tmux("kill-session", "-t", f"={session}")
        return 0
    os.kill(int(owner), signal.SIGTERM)
    deadline = time.monotonic() + 2 * limit_s + 10
    while tmux.owner_of(session) is not None:
        if time.monotonic() > deadline:
            console.print(f"tmux session {session}: still there after {2 * limit_s + 10:g} s")
            return 1
        time.sleep(0.2)
    console.print(f"tmux session {session}: ended")
    return 0


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    app()
