"""``slime-search prepare-data hotpotqa-only``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from slime_search.cli.console import need, one_sentence
from slime_search.data.flashrag import DATA_SETS, file_of

if TYPE_CHECKING:
    from slime_search.data.hotpotqa_corpus import Paragraphs
    from slime_search.data.prepare import Prepared

_NAME = "hotpotqa"


def hotpotqa_only(
    output: Annotated[Path, typer.Option(help="The folder for everything.")] = Path("data/hotpotqa_only"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Read hotpotqa/<split>.jsonl here, as FlashRAG has them.", show_default="download"
        ),
    ] = None,
    index: Annotated[bool, typer.Option(help="Build the index too; BM25 needs none.")] = True,
    retriever_name: Annotated[str, typer.Option(help="The encoder's family: e5, bge, contriever, dpr or auto.")] = "e5",
    retriever_model: Annotated[
        str, typer.Option(help="The encoder that makes the index: a folder or a Hub name.")
    ] = "intfloat/e5-base-v2",
    device: Annotated[str, typer.Option(help="Where the encoder computes: cpu, cuda or cuda:0.")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that the encoder takes at once.")] = 64,
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Train on questions that are in the test set, too.")
    ] = False,
) -> None:
    """Make a small data set to train and search on: HotpotQA's questions, and the paragraphs that come with them.

    slime-search prepare-data hotpotqa-only

    slime-search prepare-data hotpotqa-only --no-index --output data/bm25

    Leaves train.parquet, test/hotpotqa.parquet (the dev split, whose answers
    are known), corpus.jsonl and faiss.index in the output folder. The corpus
    holds the paragraphs that each question was written from and those that
    distract from them: hundreds of thousands, where Wikipedia has 21 million
    passages.

    The questions come from FlashRAG's collection on the Hugging Face Hub
    (HF_ENDPOINT, HF_TOKEN and HF_HOME are honoured), or from --data-dir. Give
    the same command again after an interruption: the index goes on where it was.
    """
    if index:
        need("retrieval", "torch", "faiss", "sentence_transformers")
    console = Console()
    data_set = DATA_SETS[_NAME]
    assert data_set.train is not None
    with one_sentence(interrupted="Interrupted. Run the same command again."):
        files = [file_of(_NAME, split, data_dir) for split in (data_set.train, data_set.test)]
        prepared, paragraphs = _questions_and_corpus(files, output, console, keep_leaks=keep_leaks)
        if index:
            _build_index(output, retriever_name, retriever_model, device, batch_size)
    (train,), (test,) = prepared.train, prepared.test
    console.print(
        f"{train.written:,} questions to train on ({train.duplicates:,} were there twice, {train.leaked:,} are in the "
        f"test set), {test.written:,} to test on, {paragraphs.written:,} paragraphs ({paragraphs.read:,} with repeats)."
    )
    encoder = f"{retriever_name} --retriever_model {retriever_model} --index_path {output / 'faiss.index'}"
    console.print("Serve it:", highlight=False)
    console.print(
        f"  slime-search serve-retriever --corpus_path {output / 'corpus.jsonl'} "
        f"--retriever_name {encoder if index else 'bm25'}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _questions_and_corpus(
    files: Sequence[Path], output: Path, console: Console, *, keep_leaks: bool
) -> "tuple[Prepared, Paragraphs]":
    from slime_search.data.hotpotqa_corpus import write_corpus
    from slime_search.data.prepare import FORMATS, prepare

    train, test = ({_NAME: path} for path in files)
    with Progress(console=console, transient=True) as progress:
        prepared = prepare(train, test, output, FORMATS["search-r1"], progress, keep_leaks=keep_leaks)
        task = progress.add_task("writing corpus.jsonl", total=sum(path.stat().st_size for path in files))
        paragraphs = write_corpus(files, output / "corpus.jsonl", lambda count: progress.advance(task, count))
    return prepared, paragraphs


def _build_index(output: Path, name: str, model: str, device: str, batch_size: int) -> None:
    from slime_search.retrieval.indexing.faiss_file import build_faiss_file

    build_faiss_file(
        output / "faiss.index", output / "corpus.jsonl", name=name, model=model, device=device, batch_size=batch_size
    )
