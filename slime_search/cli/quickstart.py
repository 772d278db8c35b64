"""``slime-search quickstart``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slime_search.cli.console import end_on_signals, one_sentence

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


class Shown(StrEnum):
    """The recipes of the quickstart."""

    SEARCH_R1 = "search-r1"
    THINKER_SEARCHER = "thinker-searcher"
    CODA = "coda"
    DISTILL = "distill"


class Speech(StrEnum):
    """The dialects of the quickstart."""

    TAGS = "tags"
    TOOLS = "tools"


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="Folder for the model, metrics, curve and report.")] = Path(
        "runs/quickstart"
    ),
    seed: Annotated[
        int,
        typer.Option(
            help="Of the questions and the sampling; of the encyclopedia and the weights too where they are made here."
        ),
    ] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="GRPO steps, of 128 rollouts each; of 32 with a teacher.",
            show_default="50; 24 with a teacher",
        ),
    ] = None,
    cold_start_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Supervised steps of each model before that.",
            show_default="500 to 800, by recipe and dialect; none for search-r1, whose policy is taught already",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option(help="Teach search-r1's policy here too, in an encyclopedia of the seed's own.")
    ] = False,
    recipe: Annotated[
        Shown,
        typer.Option(
            help="search-r1: one agent that searches. thinker-searcher, coda: agents that call others. distill: one "
            "with a teacher."
        ),
    ] = (Shown.SEARCH_R1),
    dialect: Annotated[
        Speech | None,
        typer.Option(
            help="How search-r1 calls a search: with tags, or with OpenAI tool calls over the chat API.",
            show_default="tags; tools for distill",
        ),
    ] = None,
) -> None:
    """Watch a search agent learn on this machine, in minutes, without a GPU or a download.

    slime-search quickstart

    slime-search quickstart --dialect tools --output runs/tools

    slime-search quickstart --recipe coda --steps 10 --output runs/short

    A model of 0.86 million parameters, which has imitated demonstrations that
    know the format and search badly, learns by GRPO to search an invented
    encyclopedia and to answer from what it finds. Held-out questions are
    about people, towns and companies that it never saw. With --from-scratch,
    or another recipe than search-r1, the imitation is done here too.

    Leaves summary.json, metrics.jsonl, curve.png, report.html and the trained
    model in the output folder.
    """
    from slime_search.local.services import restart_with_cpu_env

    restart_with_cpu_env("slime_search.cli")
    from slime_search.local.presets import preset_of
    from slime_search.local.quickstart import Quickstart, QuickstartConfig

    end_on_signals()
    with one_sentence():
        preset = preset_of(recipe, dialect)
    config = QuickstartConfig(
        output=output,
        seed=seed,
        preset=preset,
        steps=steps,
        cold_start_steps=cold_start_steps,
        from_scratch=from_scratch,
    )
    with one_sentence(interrupted=f"\nInterrupted. What was done until now is in {output}."):
        Quickstart(config, Console()).run()
