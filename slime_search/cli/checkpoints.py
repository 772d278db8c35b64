"""``slime-search checkpoints``."""

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler
from rich.markup import escape

from slime_search.cli.console import one_sentence, stderr
from slime_search.ops.checkpoints.folder import MANIFESTS, CheckpointFolder
from slime_search.ops.checkpoints.hub import HubRepo
from slime_search.ops.checkpoints.resume import prepare_resume
from slime_search.ops.checkpoints.watcher import Pusher, Watcher
from slime_search.ops.launch.supervisor import identity

logger = logging.getLogger(__name__)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

Folder = Annotated[Path, typer.Argument(help="The folder that slime gets as --save.", file_okay=False)]
Repo = Annotated[
    str | None,
    typer.Option(
        "--hub", help="A model repository of the Hugging Face Hub, owner/name; HF_TOKEN opens it.", show_default="none"
    ),
]


@app.callback()
def _main() -> None:
    """Keep, push and find again the checkpoints of a training on slime.

    slime-search checkpoints watch /ckpt/run --hub owner/run

    slime-search checkpoints resume /ckpt/run --hub owner/run
    """
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler(console=stderr, show_path=False)])
    # Of every request that is tried again it tells the address, which may be a signed one.
    for name in ("huggingface_hub", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.ERROR)


@app.command()
def watch(
    folder: Folder,
    hub: Repo = None,
    keep: Annotated[
        int, typer.Option(min=1, help="How many of the newest whole checkpoints stay, here and on the Hub.")
    ] = 2,
    until_pid: Annotated[
        int | None, typer.Option(help="End when this process has ended.", show_default="only on a signal")
    ] = None,
    poll_s: Annotated[float, typer.Option(min=0.05, help="Seconds from one look at the folder to the next.")] = 15.0,
    retry_s: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds until a failed push is tried again; twice as many each further time."),
    ] = 30.0,
    final_s: Annotated[
        float, typer.Option(min=0.0, help="The most seconds for the last push, once the training has ended.")
    ] = 3600.0,
) -> None:
    """Look after a training's checkpoints beside it: mark each that is whole, push it, delete old ones.

    slime-search checkpoints watch /ckpt/run --hub owner/run --until-pid $PID

    Ends with the training or on Ctrl-C, after a last push; a second Ctrl-C ends
    it at once. With --until-pid Ctrl-C is left to the training, which may save
    before it ends. The exit code is 1 if the newest checkpoint could not be
    pushed. A Hub that is not reachable does not disturb the training.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # it runs beside what has a screen of its own
    checkpoints = CheckpointFolder(folder)
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal if until_pid is None else signal.SIG_IGN)
    if until_pid is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    training = None if until_pid is None else _alive(until_pid)
    if not folder.is_dir():
        waiting = f"{folder}: does not exist yet; waiting until the training saves there"
        stderr.print(escape(waiting), soft_wrap=True)
    with one_sentence():
        pusher = None if hub is None else Pusher(HubRepo(hub), checkpoints, keep=keep, retry_s=retry_s)
        with _alone(folder, stop):
            fine = Watcher(checkpoints, pusher, keep=keep).run(
                lambda: until_pid is not None and (training is None or _alive(until_pid) != training),
                stop,
                poll_s=poll_s,
                final_s=final_s,
            )
    # A push that was left behind still runs in its thread.
    os._exit(0 if fine else 1)


@app.command()
def resume(
    folder: Folder,
    hub: Repo = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Compare checksums of whole files, and not sizes and times alone.")
    ] = False,
) -> None:
    """Make slime go on from the newest whole checkpoint, fetched from the Hub if it is newer there.

    slime-search checkpoints resume /ckpt/run --hub owner/run

    Prints its iteration and where it was, or "none". slime then loads it with
    --load FOLDER.
    """
    with one_sentence():
        found = prepare_resume(CheckpointFolder(folder), None if hub is None else HubRepo(hub), thorough=thorough)
    typer.echo("none" if found is None else f"{found.iteration} {found.origin}")


def _alive(pid: int) -> str | None:
    """Which process has this number; None where it has ended, and waits for its parent to notice, too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
    return None if state in "ZX" else identity(pid)


@contextmanager
def _alone(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Waits until no other one looks after the folder, such as that of an earlier run, which pushes its last."""
    (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
    with (folder / MANIFESTS / ".lock").open("w") as lock:
        announced = False
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not announced:
                    logger.info("%s: another process looks after these checkpoints; waiting until it ends", folder)
                announced = True
                stop.wait(1.0)
        yield
