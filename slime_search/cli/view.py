"""``slime-search view``."""

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from slime_search.cli.console import end_on_signals, one_sentence, stderr
from slime_search.errors import DataError

if TYPE_CHECKING:
    from slime_search.viewer.library import Library
    from slime_search.viewer.selection import Selection

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

_FILTERS = "Which rollouts are shown first, or exported"


@app.command()
def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files of rollouts (.jsonl), dumps of slime's --save-debug-rollout-data (.pt), or folders with them: "
            "of a quickstart, of an evaluation, of dumps."
        ),
    ],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="The policy's folder or Hub name, to show a dump's tokens as text.", show_default="ids are shown"
        ),
    ] = None,
    reward_key: Annotated[
        str | None, typer.Option(help="slime's --reward-key, where the rewards of a dump are dicts.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write one self-contained page instead of serving.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most rollouts of an exported page.")] = 100,
    text: Annotated[str, typer.Option(help="Words of the question or the answer.", rich_help_panel=_FILTERS)] = "",
    result: Annotated[str, typer.Option(help="right or wrong.", rich_help_panel=_FILTERS)] = "",
    reward_min: Annotated[float | None, typer.Option(help="The least reward.", rich_help_panel=_FILTERS)] = None,
    reward_max: Annotated[float | None, typer.Option(help="The most.", rich_help_panel=_FILTERS)] = None,
    searches_min: Annotated[int | None, typer.Option(help="The fewest searches.", rich_help_panel=_FILTERS)] = None,
    searches_max: Annotated[int | None, typer.Option(help="The most.", rich_help_panel=_FILTERS)] = None,
    ending: Annotated[
        str,
        typer.Option(help="answered, truncated, out_of_turns, failed or aborted.", rich_help_panel=_FILTERS),
    ] = "",
    recipe: Annotated[str, typer.Option(help="Such as search-r1.", rich_help_panel=_FILTERS)] = "",
    source: Annotated[str, typer.Option(help="The data set, such as nq.", rich_help_panel=_FILTERS)] = "",
    checkpoint: Annotated[
        str,
        typer.Option(help="before or after, of a quickstart; or a file's name, of several.", rich_help_panel=_FILTERS),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            help="reward, searches, tokens, latency or question.",
            show_default="order of the files",
            rich_help_panel=_FILTERS,
        ),
    ] = "",
    descending: Annotated[
        bool, typer.Option("--descending", help="The largest first.", rich_help_panel=_FILTERS)
    ] = False,
    host: Annotated[
        str, typer.Option(help="The address to listen on. There is no password: whoever reaches it sees the rollouts.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")] = 8010,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Look at rollouts in a browser: every token, search and reward; before and after; filtered and compared.

    The page is served on this machine alone; on a cluster, forward its port.

    ssh -L 8010:127.0.0.1:8010 CLUSTER

    slime-search view runs/quickstart

    slime-search view dumps/ --tokenizer Qwen/Qwen2.5-3B

    slime-search view runs/quickstart --export wrong.html \\
      --checkpoint after --result wrong
    """
    from slime_search.viewer.selection import read_selection, select

    fields = {
        "text": text,
        "result": result,
        "reward_min": reward_min,
        "reward_max": reward_max,
        "searches_min": searches_min,
        "searches_max": searches_max,
        "ending": ending,
        "recipe": recipe,
        "source": source,
        "checkpoint": checkpoint,
        "sort": sort,
        "descending": descending,
    }
    end_on_signals()
    with one_sentence():
        selection = read_selection(fields)
        with tempfile.TemporaryDirectory(prefix="slime-search-view-") as spool:
            library = _open(paths, Path(spool), tokenizer, reward_key)
            found = len(select(library, selection))
            if export is not None:
                _export(library, selection, export, limit, found)
            else:
                _serve(library, selection, host, port, browser)


def _open(paths: list[Path], spool: Path, tokenizer: str | None, reward_key: str | None) -> "Library":
    from slime_search.viewer.opening import open_library

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"))
    shown = stderr.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=stderr, transient=True, disable=not shown) as progress:
        return open_library(paths, spool=spool, progress=progress, tokenizer=tokenizer, reward_key=reward_key)


def _export(library: "Library", selection: "Selection", path: Path, limit: int, found: int) -> None:
    from slime_search.viewer.export import export

    page = export(library, selection, limit=limit)
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"--export {path}: {error.strerror}") from None
    typer.echo(f"{path}: {min(found, limit):,} of {found:,} rollouts that fit, {path.stat().st_size / 1e6:.1f} MB")


def _serve(library: "Library", selection: "Selection", host: str, port: int, browser: bool) -> None:
    from slime_search.transport.serving import open_listener, url_of
    from slime_search.viewer.app import serve

    listener = open_listener(host, port)
    query = selection.query()
    address = url_of(listener) + (f"/?{query}" if query else "")
    typer.echo(f"{len(library.entries):,} rollouts at {address}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(address)
    serve(library, listener, host=host)
