"""``python -m slime_search.retrieval``: serves a corpus."""

import math
import os
import signal
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from slime_search.retrieval.loading import load_bm25
from slime_search.retrieval.options import ServingOptions
from slime_search.retrieval.passages import CorpusError
from slime_search.retrieval.protocol import MAX_TOPK
from slime_search.retrieval.server import ListenError, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


TOKEN_VARIABLE = "SLIME_SEARCH_RETRIEVER_TOKEN"

_DEFAULTS = ServingOptions()


class RetrieverName(StrEnum):
    BM25 = "bm25"


_LOADERS = {RetrieverName.BM25: load_bm25}


def _positive(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{seconds:g} is not a number of seconds above 0")
    return seconds


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
    ] = _DEFAULTS.default_topk,
    queue_size: Annotated[
        int,
        typer.Option(
            "--queue_size",
            "--queue-size",
            min=1,
            help="Queries that may wait for a search; a request beyond that is answered 503.",
        ),
    ] = _DEFAULTS.queue_size,
    deadline: Annotated[
        float | None,
        typer.Option(
            callback=_positive,
            help="Seconds after which a request is answered 503 and what still waits of it is not searched.",
            show_default="none",
        ),
    ] = _DEFAULTS.deadline_s,
    cache_mb: Annotated[
        int,
        typer.Option(
            "--cache_mb", "--cache-mb", min=0, help="Memory for the results of past searches, in MiB; 0 keeps none."
        ),
    ] = _DEFAULTS.cache_bytes >> 20,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 8000,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="End when stdin ends; for a parent that holds it as a pipe.")
    ] = False,
) -> None:
    """Serves a corpus over Search-R1's /retrieve protocol.

    Where the environment holds SLIME_SEARCH_RETRIEVER_TOKEN, /retrieve and /metrics ask for it as a bearer token.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        serve(
            partial(_LOADERS[retriever_name], corpus_path),
            host=host,
            port=port,
            options=ServingOptions(
                default_topk=topk,
                queue_size=queue_size,
                deadline_s=deadline,
                cache_bytes=cache_mb << 20,
                token=os.environ.get(TOKEN_VARIABLE, "").strip() or None,
            ),
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
