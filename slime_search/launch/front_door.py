"""The command line of a run: checks, dry run, attaching, and ending a run that goes on."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from slime_search.launch import tmux
from slime_search.launch.checks import Problem
from slime_search.launch.identity import identity
from slime_search.launch.settings import LaunchSettings
from slime_search.launch.supervisor import LaunchFailed, Supervisor
from slime_search.launch.viewer import Viewer

S = TypeVar("S", bound=LaunchSettings)
S_contra = TypeVar("S_contra", bound=LaunchSettings, contravariant=True)

console = Console(stderr=True, highlight=False)


class Check(Protocol[S_contra]):
    """Everything that stands in the way of a run; ``own_script`` where the training is this package's."""

    def __call__(self, settings: S_contra, *, own_script: bool) -> Iterable[Problem]: ...


def front_door(kind: type[S], problems: Check[S], summary: str) -> typer.Typer:
    """A run's command line.

    Args:
        kind: its settings, which know its services.
        problems: what to check before anything is started.
        summary: what ``--help`` says first.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=summary)
    def main(
        options: Annotated[list[str] | None, typer.Argument(help="Options of the training script, after --.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the commands.")] = False,
        attach: Annotated[bool, typer.Option("--attach", help="Show the session.")] = False,
        stop: Annotated[bool, typer.Option("--stop", help="End the session that runs.")] = False,
        own_script: Annotated[bool, typer.Option("--own-script", hidden=True)] = False,
    ) -> None:
        settings = _settings(kind)
        if stop:
            windows = len(settings.services()) + 1
            raise typer.Exit(_stop(settings.session_name, windows * settings.stop_timeout + 10))
        can_start = _can_start(settings.session_name, list(problems(settings, own_script=own_script)))
        if dry_run:
            _print_commands(settings, options or ())
        if not can_start:
            raise typer.Exit(2)
        if not dry_run:
            raise typer.Exit(_run(settings, options or (), attach=attach))

    return app


def _settings(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        for part in error.errors():
            name = str(part["loc"][0]).upper()
            console.print(f"[red]{name}:[/] {escape(str(part['input']))}: {escape(part['msg'])}", soft_wrap=True)
        raise typer.Exit(2) from None


def _can_start(session: str, found: list[Problem]) -> bool:
    for problem in found:
        console.print(f"[{'red' if problem.fatal else 'yellow'}]{escape(problem.message)}[/]", soft_wrap=True)
    owner = tmux.owner_of(session) if tmux.is_installed() else None
    if owner is not None:
        console.print(
            f"[red]tmux session {session} exists already:[/] end it with --stop, or set SESSION_NAME for a second run",
            soft_wrap=True,
        )
    return owner is None and not any(problem.fatal for problem in found)


def _print_commands(settings: LaunchSettings, options: Iterable[str]) -> None:
    for service in settings.services():
        if service.command is None:
            console.print(f"# {service.name} is asked only: {service.url}", soft_wrap=True)
        else:
            sys.stdout.write(f"{service.command}\n")
    sys.stdout.write(f"{settings.training(list(options))}\n")


def _run(settings: LaunchSettings, options: Iterable[str], *, attach: bool) -> int:
    session = settings.session_name
    supervisor = Supervisor(
        session,
        settings.services(),
        settings.training(list(options)),
        log_dir=settings.log_dir,
        stop_timeout=settings.stop_timeout,
        console=console,
    )
    viewer = Viewer(session, console)
    on_session: Callable[[], None] = viewer.show if attach else lambda: _say_how(session)
    try:
        return supervisor.run(on_session)
    except LaunchFailed as error:
        console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        return 1
    finally:
        viewer.close()


def _say_how(session: str) -> None:
    console.print(f"look at it with: tmux attach -t {session}")


def _stop(session: str, limit_s: float) -> int:
    """Tells the process that watches the session, which ends what it started."""
    owner = tmux.owner_of(session)
    if not owner:
        why = "nothing runs there" if owner is None else "it is not one of ours"
        console.print(f"tmux session {session}: {why}")
        return 1
    pid = int(owner.partition(":")[0])
    if identity(pid) != owner:
        console.print(f"tmux session {session}: its watcher is gone; closing it")
        tmux.tmux("kill-session", "-t", f"={session}")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    while tmux.owner_of(session) is not None:
        if time.monotonic() > deadline:
            console.print(f"tmux session {session}: still there after {limit_s:g} s")
            return 1
        time.sleep(0.2)
    console.print(f"tmux session {session}: ended")
    return 0
