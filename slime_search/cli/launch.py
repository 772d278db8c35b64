"""``slime-search launch``: checks, dry run, attaching, and ending a run that goes on."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, TypeVar

import typer
from pydantic import ValidationError
from rich.markup import escape

from slime_search.cli.console import refuse_variables, stderr
from slime_search.ops.launch import tmux
from slime_search.ops.launch.attaching import Viewer
from slime_search.ops.launch.checks import Problem, problems
from slime_search.ops.launch.settings import LaunchSettings
from slime_search.ops.launch.supervisor import LaunchFailed, Supervisor, identity
from slime_search.ops.launch.thinker_searcher import ThinkerLaunchSettings, thinker_problems

S = TypeVar("S", bound=LaunchSettings)
S_contra = TypeVar("S_contra", bound=LaunchSettings, contravariant=True)


class Check(Protocol[S_contra]):
    """Everything that stands in the way of a run; ``own_script`` where the training is this package's."""

    def __call__(self, settings: S_contra, *, own_script: bool) -> Iterable[Problem]: ...


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _main() -> None:
    """Run a training beside the services that it needs, in one tmux session.

    slime-search launch search-r1 --dry-run

    Model, data and services are named by the environment variables that
    docs/run-scripts.md lists, such as CORPUS_PATH and TRAIN_SCRIPT.
    """


def launch_command(kind: type[S], problems: Check[S]) -> Callable[..., None]:
    """A run's command line, to be given to ``typer.Typer.command``.

    Args:
        kind: the run's settings, which know its services.
        problems: what to check before anything is started.
    """

    def launch(
        options: Annotated[
            list[str] | None, typer.Argument(help="Options of the training script, after --: -- --num-rollout 500.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check everything and print the commands; start nothing.")
        ] = False,
        attach: Annotated[
            bool, typer.Option("--attach", help="Show the session while it runs; Ctrl-b d leaves it.")
        ] = False,
        stop: Annotated[bool, typer.Option("--stop", help="End the session that another terminal started.")] = False,
        own_script: Annotated[bool, typer.Option("--own-script", hidden=True)] = False,
    ) -> None:
        settings = _settings(kind)
        if stop:
            windows = len(settings.services()) + 1
            raise typer.Exit(_stop(settings.session_name, windows * settings.stop_timeout + 10))
        can_start = _can_start(settings.session_name, list(problems(settings, own_script=own_script)))
        if dry_run and settings.train_script is not None:
            _print_commands(settings, options or ())
        if not can_start:
            raise typer.Exit(2)
        if not dry_run:
            raise typer.Exit(_run(settings, options or (), attach=attach))

    return launch


def _settings(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        refuse_variables(error)


def _can_start(session: str, found: list[Problem]) -> bool:
    for problem in found:
        stderr.print(f"[{'red' if problem.fatal else 'yellow'}]{escape(str(problem))}[/]", soft_wrap=True)
    owner = tmux.owner_of(session) if tmux.is_installed() else None
    if owner is not None:
        stderr.print(
            f"[red]tmux session {session} exists already:[/] end it with --stop, or set SESSION_NAME for a second run",
            soft_wrap=True,
        )
    return owner is None and not any(problem.fatal for problem in found)


def _print_commands(settings: LaunchSettings, options: Iterable[str]) -> None:
    for service in settings.services():
        if service.command is None:
            stderr.print(f"# {service.name} is asked only: {service.url}", soft_wrap=True)
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
        console=stderr,
    )
    viewer = Viewer(session, stderr)
    on_session: Callable[[], None] = viewer.show if attach else lambda: _say_how(session)
    try:
        return supervisor.run(on_session)
    except LaunchFailed as error:
        stderr.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        return 1
    finally:
        viewer.close()


def _say_how(session: str) -> None:
    stderr.print(f"look at it with: tmux attach -t {session}")


def _stop(session: str, limit_s: float) -> int:
    """Tells the process that watches the session, which ends what it started."""
    owner = tmux.owner_of(session)
    if not owner:
        why = "nothing runs there" if owner is None else "it is not one of ours"
        stderr.print(f"tmux session {session}: {why}")
        return 1
    pid = int(owner.partition(":")[0])
    if identity(pid) != owner:
        stderr.print(f"tmux session {session}: its watcher is gone; closing it")
        tmux.tmux("kill-session", "-t", f"={session}")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    while tmux.owner_of(session) is not None:
        if time.monotonic() > deadline:
            stderr.print(f"tmux session {session}: still there after {limit_s:g} s")
            return 1
        time.sleep(0.2)
    stderr.print(f"tmux session {session}: ended")
    return 0


_SEARCH_R1 = """Run a training with its retrieval server.

CORPUS_PATH=data/wiki-18.jsonl INDEX_PATH=data/e5_Flat.index \\
  TRAIN_SCRIPT=examples/search_r1/run_qwen2.5_3B.sh \\
  slime-search launch search-r1 -- --num-rollout 500

Starts the retriever, waits until it is ready, starts the training, and
exits with its code. Ctrl-C, or the end of either, ends what was started.
examples/search_r1/run_with_retrieval.sh lists the environment variables.
"""
_THINKER_SEARCHER = """Run a Thinker's training with its retriever and its Searcher.

examples/thinker_searcher/run_all.sh --dry-run

calls slime-search launch thinker-searcher with the example's scripts, and
lists the environment variables. Starts the retriever, the frozen model, the
Searcher and the training, each once what it needs is ready, and exits with
the training's code. Ctrl-C, or the end of any, ends what was started.
"""
app.command("search-r1", help=_SEARCH_R1)(launch_command(LaunchSettings, problems))
app.command("thinker-searcher", help=_THINKER_SEARCHER)(launch_command(ThinkerLaunchSettings, thinker_problems))
