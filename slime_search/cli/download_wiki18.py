"""``slime-search download-wiki18``: Wikipedia of 2018 and its index."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from slime_search.cli.console import one_sentence

if TYPE_CHECKING:
    from slime_search.retrieval.download.plan import Step

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class IndexName(StrEnum):
    FLAT = "flat"
    HNSW64 = "hnsw64"
    NONE = "none"


@app.command()
def main(
    save_path: Annotated[Path, typer.Option("--save_path", "--save-path", help="The folder for the files.")],
    index: Annotated[
        IndexName,
        typer.Option(help="E5 vectors, exact (64.6 GB) or as an HNSW graph that answers fast on a CPU; none for BM25."),
    ] = IndexName.FLAT,
    corpus: Annotated[bool, typer.Option(help="Wikipedia's 21 million passages: 5.1 GB packed, 14.4 GB here.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry_run", "--dry-run", help="Say what there is to do and whether it fits.")
    ] = False,
) -> None:
    """Download what Search-R1 searches: Wikipedia of 2018 in passages, and their E5 index.

    slime-search download-wiki18 --save_path data --dry-run

    slime-search download-wiki18 --save_path data --index hnsw64

    After a kill, a failure or Ctrl-C the same command goes on where it was.
    Parts that lie in the folder already are used. Parts go straight into their
    file, without a second copy, and their checksums are compared at the end.

    HF_ENDPOINT names a mirror of the Hugging Face Hub; HF_TOKEN is your access
    token there.
    """
    from slime_search.retrieval.download.hub import CORPUS, INDEXES
    from slime_search.retrieval.download.plan import carry_out, check_room, corpus_step, index_step
    from slime_search.retrieval.download.store import locked

    console = Console()
    with one_sentence(interrupted="Interrupted. The same command goes on from here."), locked(save_path):
        # The corpus first: its archive is gone before the index needs the room.
        wanted = [corpus_step(CORPUS, save_path) if corpus else None]
        wanted += [index_step(INDEXES[index], save_path) if index != IndexName.NONE else None]
        steps = [step for step in wanted if step]
        if steps:
            console.print(_overview(steps))
        needed, free = check_room(steps, save_path)
        console.print(f"{decimal(needed)} of disk needed, {decimal(free)} free in {escape(str(save_path))}")
        if dry_run:
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as progress:
            carry_out(steps, progress)
    console.print("[green]Everything is there.[/green]")


def _overview(steps: "Sequence[Step]") -> Table:
    table = Table("file", "size", "in the folder", "from")
    for step in steps:
        source = ", ".join(part.name for part in step.parts) or step.whole.name
        table.add_row(step.target.name, decimal(step.size), decimal(step.present), source)
    return table
