"""``slime-search build-index``: vectors of a corpus, and codes that are quick to search."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from slime_search.cli.checking import look_for_model
from slime_search.cli.console import one_sentence
from slime_search.data.asked import read_asked
from slime_search.errors import ConfigError
from slime_search.retrieval.indexing.command import Asked, build_store
from slime_search.retrieval.vectors.manifest import Kind, Manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="The folder of the index. A build that was interrupted in it goes on.")],
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
    self_test_queries: Annotated[
        Path | None,
        typer.Option(
            "--self-test-queries",
            "--self_test_queries",
            help="Questions to test with, 500 of all over the file at most: .jsonl, .parquet, or .txt with one a line.",
            show_default="made of the passages or the vectors",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the encoder computes: cpu, cuda or cuda:0.")] = "cpu",
    precision: Annotated[str, typer.Option(help="What the encoder computes in: auto, fp32, bf16 or fp16.")] = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", min=1, help="Texts the encoder takes at once.")
    ] = 64,
) -> None:
    """Builds a folder that serve-retriever takes as --index_path.

    slime-search build-index --corpus_path wiki-18.jsonl \\
      --retriever_name e5 --retriever_model intfloat/e5-base-v2 \\
      --device cuda --output e5-index

    slime-search build-index --from-index e5_Flat.index --kind rabitq \\
      --output e5-lean

    Vectors come from encoding a corpus, or from a flat FAISS index such as the
    published e5_Flat.index. They are stored as float16 on disk. In memory sq8
    holds a byte a dimension, rabitq a bit: for 21 million vectors of 768 numbers
    that is 32 GB on disk, and 16 GB (sq8) or 2.4 GB (rabitq) in memory.

    After Ctrl-C or a kill, give the same command again: at most the last few
    thousand vectors are made anew. A self-test of the finished index ends it;
    with --self-test-queries a store that is complete is tested anew.
    """
    console = Console(stderr=True)
    with one_sentence(interrupted=f"interrupted; give the same command again to go on with {output}"):
        if output.exists() and not output.is_dir():
            raise ConfigError(f"--output {output}: is a file", "name a folder, which is made where there is none")
        if retriever_model is not None:
            look_for_model("--retriever_model", retriever_model)
        asked = None if self_test_queries is None else _asked(self_test_queries)
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
            asked=asked,
        )
    _report(manifest, output)


def _asked(path: Path) -> Asked:
    """Raises DataError."""
    return Asked(list(read_asked(path)), f"questions of {path.name}")


def _report(manifest: Manifest, output: Path) -> None:
    from slime_search.retrieval.indexing.building import LEAST_RECALL

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
            "these vectors suit this kind badly, or the test's queries are harder than yours. Measure with your own, "
            "--self-test-queries, or build with --kind sq8, which is exact."
        )
