"""``slime-search prepare-data asearcher``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from slime_search.cli.console import one_sentence
from slime_search.data.flashrag import file_of


def asearcher(
    output: Annotated[Path, typer.Option(help="The folder for everything.")] = Path("data/asearcher"),
    source: Annotated[
        Path | None,
        typer.Option(
            help="A .parquet or .jsonl of ASearcher's questions, or a folder of them.", show_default="download"
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Read hotpotqa/dev.jsonl here, as FlashRAG has it.", show_default="download"),
    ] = None,
    validation: Annotated[int, typer.Option(min=0, help="Questions held out of training.")] = 500,
    seed: Annotated[int, typer.Option(help="Which ones they are, and the order of the others.")] = 0,
) -> None:
    """Make the files that a search agent with a teacher is trained on: ASearcher's questions as chat messages.

    slime-search prepare-data asearcher

    slime-search prepare-data asearcher --source questions.jsonl --validation 200

    Leaves train.parquet, test/asearcher.parquet (held out) and
    test/hotpotqa.parquet (its dev split) in the output folder.

    A question may stand in a column question, query, problem, input,
    instruction, prompt or messages; answers in golden_answers, answer, answers,
    aug_answer, ground_truth, target, reward_model or label, all of which count.
    Questions that occur twice, or in HotpotQA's dev split, are left out and
    counted.

    What is not named comes from the Hugging Face Hub (HF_ENDPOINT, HF_TOKEN and
    HF_HOME are honoured).
    """
    from slime_search.data.asearcher import prepare_asearcher, source_files

    console = Console()
    with one_sentence(interrupted="Interrupted. Run the same command again."):
        files, hotpotqa = source_files(source), file_of("hotpotqa", "dev", data_dir)
        with Progress(console=console, transient=True) as progress:
            done = prepare_asearcher(files, hotpotqa, output, progress, validation=validation, seed=seed)
    console.print(
        f"{done.train:,} questions to train on and {done.validation:,} held out, of {done.read:,} ({done.duplicates:,} "
        f"were there twice, {done.leaked:,} are in HotpotQA's dev split); {done.hotpotqa:,} of HotpotQA."
    )
    console.print("Tell slime:", highlight=False)
    flags = "--input-key messages --tool-key tools --label-key label --rollout-shuffle"
    console.print(f"  --prompt-data {output / 'train.parquet'} {flags}", soft_wrap=True, markup=False, highlight=False)
