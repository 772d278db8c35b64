"""``slime-search build-index``: vectors of a corpus, and codes that are quick to search."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from slime_search.retrieval.build.digest import stamp_of
from slime_search.retrieval.errors import SetupError
from slime_search.retrieval.vectors.errors import VectorIndexError
from slime_search.retrieval.vectors.manifest import Kind, Manifest, Source

if TYPE_CHECKING:
    from slime_search.retrieval.build.inputs import Input

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="The store's folder. An interrupted build in it is carried on.")],
    corpus_path: Annotated[
        Path | None,
        typer.Option("--corpus_path", "--corpus-path", help="The passages: JSON Lines, also gzipped."),
    ] = None,
    retriever_name: Annotated[
        str,
        typer.Option("--retriever_name", "--retriever-name", help="The encoder's family: e5, bge, …, auto."),
    ] = "auto",
    retriever_model: Annotated[
        str | None,
        typer.Option("--retriever_model", "--retriever-model", help="The encoder: a folder or a name of the Hub."),
    ] = None,
    from_index: Annotated[
        Path | None,
        typer.Option("--from-index", "--from_index", help="A flat FAISS index to convert; nothing is encoded."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(help="flat: for GPUs. sq8: exact on a CPU. rabitq: least memory."),
    ] = Kind.SQ8,
    shards: Annotated[
        int, typer.Option(min=1, help="Parts in which rabitq can be served; other kinds can be in any number.")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where the encoder computes: cpu, cuda or cuda:0.")] = "cpu",
    precision: Annotated[str, typer.Option(help="What the encoder computes in.")] = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", min=1, help="Texts the encoder takes at once.")
    ] = 64,
) -> None:
    """Builds a folder that serve-retriever takes as --index_path.

    Vectors come from encoding a corpus, or from a flat FAISS index such as the published e5_Flat.index. The store holds
    them as float16 on disk, and for sq8 a byte, for rabitq a bit a dimension to be held in memory. For 21 million
    vectors of 768 numbers that is 32 GB on disk, and in memory 16 GB (sq8) or 2.4 GB (rabitq).

    Ctrl-C or a kill loses at most the last few thousand vectors: give the same command again. A self-test ends it.
    """
    console = Console(stderr=True)
    try:
        manifest = build_store(
            output,
            corpus_path=corpus_path,
            name=retriever_name,
            model=retriever_model,
            from_index=from_index,
            kind=kind,
            shards=shards,
            encoding={"device": device, "precision": precision, "batch_size": batch_size},
            console=console,
        )
    except (SetupError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"interrupted; give the same command again to go on with {output}", err=True)
        raise typer.Exit(130) from None
    _report(manifest, output)


def build_store(
    output: Path,
    *,
    corpus_path: Path | None,
    name: str,
    model: str | None,
    from_index: Path | None,
    kind: Kind,
    shards: int,
    encoding: dict[str, str | int],
    console: Console,
) -> Manifest:
    """Builds the store in ``output``, or carries on with it, and shows how far it is. Raises SetupError."""
    _check_options(corpus_path, model, from_index)
    _need("torch", "faiss", *(() if from_index else ("sentence_transformers",)))
    from slime_search.retrieval.build.building import build
    from slime_search.retrieval.build.inputs import EncodedCorpus, FlatIndexFile

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        if from_index is not None:
            flat = FlatIndexFile(from_index)
            return build(
                output,
                Source(kind=kind, shards=shards, count=flat.count, from_index=stamp_of(from_index)),
                lambda: flat,
                progress,
            )
        from slime_search.retrieval.corpus import Corpus

        assert corpus_path is not None and model is not None
        reading = progress.add_task("reading the corpus", total=None)
        corpus = Corpus.read(corpus_path, lambda done, total: progress.update(reading, completed=done, total=total))

        def load() -> "Input":
            from slime_search.retrieval.encoders.loading import load_encoder

            encoder = load_encoder(
                model,
                family=name,
                device=str(encoding["device"]),
                precision=str(encoding["precision"]),
                batch_size=int(encoding["batch_size"]),
            )
            return EncodedCorpus(corpus, encoder)

        source = Source(
            kind=kind,
            shards=shards,
            count=len(corpus),
            corpus=stamp_of(corpus_path),
            retriever_name=name,
            retriever_model=model,
        )
        return build(output, source, load, progress)


def _check_options(corpus_path: Path | None, model: str | None, from_index: Path | None) -> None:
    if from_index is not None:
        if corpus_path is not None or model is not None:
            raise VectorIndexError(
                "--from-index: holds the vectors already; leave --corpus_path and --retriever_model out"
            )
    elif corpus_path is None or model is None:
        missing = "--corpus_path" if corpus_path is None else "--retriever_model"
        raise VectorIndexError(f"{missing}: is missing; give a corpus and an encoder, or an index with --from-index")


def _need(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise VectorIndexError(f"{', '.join(missing)} not installed; run: pip install 'slime-search[retrieval]'")


def _report(manifest: Manifest, output: Path) -> None:
    from slime_search.retrieval.build.self_test import LEAST_RECALL

    test = manifest.self_test
    assert test is not None
    console = Console()
    source = manifest.source
    table = Table(title=f"{output}: {source.kind}, {source.count:,} × {manifest.dimension}", title_justify="left")
    table.add_column("passages")
    table.add_column("recall against exact search", justify="right")
    for k, recall in test.recall.items():
        table.add_row(f"best {k}", f"{recall:.4f}")
    console.print(table)
    console.print(f"{test.queries} queries: {test.made_from}.")
    depth = min(3, max(test.recall))
    least = LEAST_RECALL[source.kind]
    if test.recall[depth] < least:
        console.print(
            f"[bold red]WARNING[/bold red] recall of the best {depth} is {test.recall[depth]:.4f}, below {least}: "
            "these vectors suit this kind badly. Build with --kind sq8, which is exact."
        )


if __name__ == "__main__":
    app()
