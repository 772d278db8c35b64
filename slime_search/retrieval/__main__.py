"""``python -m slime_search.retrieval``: serves a corpus."""

import signal
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from slime_search.retrieval.corpus import CorpusError
from slime_search.retrieval.loading import load_bm25
from slime_search.retrieval.protocol import MAX_TOPK
from slime_search.retrieval.server import ListenError, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class RetrieverName(StrEnum):
    BM25 = "bm25"


_LOADERS = {RetrieverName.BM25: load_bm25}


@app.command()
def main(
    corpus_path: Annotated[
        Path,
        typer.Option(
            "--corpus_path", "--corpus-path", help="JSON Lines, also gzipped: {id, contents} or {title, text} a line."
        ),
    ],
    retriever_name: Annotated[
        RetrieverName, typer.Option("--retriever_name", "--retriever-name", help="The kind of index.")
    ] = RetrieverName.BM25,
    topk: Annotated[
        int, typer.Option(min=1, max=MAX_TOPK, help="Passages a query where the request does not say.")
    ] = 3,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 8000,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="End when stdin ends; for a parent that holds it as a pipe.")
    ] = False,
) -> None:
    """Serves a corpus over Search-R1's /retrieve protocol."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        serve(
            partial(_LOADERS[retriever_name], corpus_path),
            host=host,
            port=port,
            default_topk=topk,
            exit_with_parent=exit_with_parent,
        )
    except (CorpusError, ListenError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ends the process with code 0; the server shuts down first, then raises the signal again."""
    raise SystemExit(0)


if __name__ == "__main__":
    app()
