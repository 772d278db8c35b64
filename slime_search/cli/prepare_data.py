"""``slime-search prepare-data``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slime_search.cli.checking import url
from slime_search.cli.console import one_sentence
from slime_search.cli.prepare_asearcher import asearcher
from slime_search.cli.prepare_hotpotqa import hotpotqa_only
from slime_search.data.flashrag import DATA_SETS, file_of
from slime_search.errors import DataError

if TYPE_CHECKING:
    from slime_search.data.prepare import Prepared

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

_TRAIN = ",".join(("nq", "hotpotqa"))
_TEST = ",".join(DATA_SETS)


class FormatName(StrEnum):
    SEARCH_R1 = "search-r1"
    CODA = "coda"
    CHAT = "chat"


@app.callback(invoke_without_command=True)
def prepare_data(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="The folder for train.parquet and test/<name>.parquet.")] = Path("data"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Read <name>/<split>.jsonl here, as FlashRAG has them.", show_default="download"
        ),
    ] = None,
    train: Annotated[
        str, typer.Option(help="Data sets to train on, in this order, with commas between; empty for none.")
    ] = _TRAIN,
    test: Annotated[str, typer.Option(help="Data sets to test on, with commas between; empty for none.")] = _TEST,
    form: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="search-r1: its prompt with tags. coda: the prompt of CoDA's planner. chat: messages and a tool, for "
            "tool calling.",
        ),
    ] = FormatName.SEARCH_R1,
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Train on questions that are in a test set, as published runs do.")
    ] = False,
    with_audit: Annotated[
        bool,
        typer.Option(
            "--audit", help="Tell how many questions of each set have a gold answer in some passage of --corpus-path."
        ),
    ] = False,
    corpus_path: Annotated[
        Path | None,
        typer.Option("--corpus-path", "--corpus_path", help="The retriever's corpus, for --audit.", show_default=False),
    ] = None,
    retriever_url: Annotated[
        str | None,
        typer.Option(help="A retriever that runs, which --audit asks too.", show_default="none", callback=url),
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="Passages a question, for --audit.")] = 3,
    audit_questions: Annotated[
        int, typer.Option(min=1, help="Of each set, that --audit asks the retriever at most.")
    ] = 500,
) -> None:
    """Make the files that a search agent is trained on (NQ and HotpotQA) and tested on (seven sets).

    slime-search prepare-data

    slime-search prepare-data --format chat --output data/chat

    slime-search prepare-data --train nq --test nq,bamboogle

    The questions come from FlashRAG's collection on the Hugging Face Hub
    (HF_ENDPOINT, HF_TOKEN and HF_HOME are honoured), or from --data-dir.
    Training questions that occur twice, or in a test set, are left out and
    counted. Test sets stay as they are, so that scores compare.
    """
    if context.invoked_subcommand:
        return
    from slime_search.data.prepare import FORMATS, prepare

    console = Console()
    with one_sentence(interrupted="Interrupted. Run the same command again."):
        if with_audit and (corpus_path is None or not corpus_path.exists()):
            raise DataError(f"--audit: --corpus-path {corpus_path} is not there; name the retriever's corpus")
        files = {"train": _files(train, "train", data_dir), "test": _files(test, "test", data_dir)}
        with Progress(console=console, transient=True) as progress:
            prepared = prepare(**files, output=output, form=FORMATS[form], progress=progress, keep_leaks=keep_leaks)
    console.print(_summary(prepared))
    flags = FORMATS[form].flags
    evaluation = " ".join(f"{part.name} {part.path}" for part in prepared.test)
    console.print("Tell slime:", highlight=False)
    if prepared.train:
        console.print(
            f"  --prompt-data {prepared.train[0].path} {flags} --rollout-shuffle", soft_wrap=True, markup=False
        )
    if evaluation:
        console.print(f"  --eval-prompt-data {evaluation}", soft_wrap=True, markup=False)
        console.print("  (path@[0:500] takes the first 500 rows of a file)", markup=False)
    if with_audit and corpus_path is not None:
        from slime_search.cli.audit import audit

        with one_sentence(interrupted="Interrupted. The files are written; the audit alone was not ended."):
            audit(prepared, corpus_path, retriever_url, topk, audit_questions, console)


app.command("hotpotqa-only")(hotpotqa_only)
app.command("asearcher")(asearcher)


def _files(names: str, use: str, folder: Path | None) -> dict[str, Path]:
    files = {}
    for name in filter(None, map(str.strip, names.split(","))):
        data_set = DATA_SETS.get(name)
        if data_set is None:
            raise DataError(f"--{use} {name}: unknown; known: {', '.join(DATA_SETS)}")
        split = data_set.train if use == "train" else data_set.test
        if split is None:
            have = ", ".join(known.name for known in DATA_SETS.values() if known.train)
            raise DataError(f"--train {name}: has no training questions; these have: {have}")
        files[name] = file_of(name, split, folder)
    return files


def _summary(prepared: "Prepared") -> Table:
    table = Table("data set", "use", "read", "twice", "in a test set", "written")
    for use, parts in (("train", prepared.train), ("test", prepared.test)):
        for part in parts:
            leaked = f"{part.leaked:,}" if use == "train" else ""
            table.add_row(part.name, use, f"{part.read:,}", f"{part.duplicates:,}", leaked, f"{part.written:,}")
    kept = "" if prepared.leaks_removed else " (kept)"
    leaks = sum(part.leaked for part in prepared.train)
    table.caption = f"{sum(part.written for part in prepared.train):,} to train on; {leaks:,} are in a test set{kept}"
    return table
