"""``slime-search rehearse``."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slime_search.cli.console import end_on_signals, one_sentence

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

_WHAT = "What is rehearsed"
_WHERE = "What it needs"


@app.command()
def rehearse(
    slime_flags: Annotated[
        list[str] | None, typer.Argument(help="Flags of slime's train.py, after --: -- --use-tis", metavar="[-- FLAG…]")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="search-r1, search-r1-tools, thinker-searcher, coda or distill; or a module on PYTHONPATH with "
            "generate and reward_func.",
            metavar="NAME",
            rich_help_panel=_WHAT,
        ),
    ] = "search-r1",
    dialect: Annotated[
        str | None,
        typer.Option(
            help="tags or tools: how the policy of search-r1, or of a module, calls a search.", rich_help_panel=_WHAT
        ),
    ] = None,
    red: Annotated[
        bool, typer.Option("--red", help="coda: mix demonstrations into each step (RED).", rich_help_panel=_WHAT)
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps.", show_default="50; 24 with a teacher", rich_help_panel=_WHAT),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the encyclopedia, the policy and the sampling.", rich_help_panel=_WHAT)
    ] = 0,
    cold_start_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Supervised steps of the policy before.", show_default="the quickstart's", rich_help_panel=_WHAT
        ),
    ] = None,
    quickstart: Annotated[
        Path | None,
        typer.Option(
            help="The folder of a finished quickstart, whose policy is taken as it was before its GRPO.",
            show_default="one is made",
            metavar="FOLDER",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The rehearsal's folder; slime goes on from a checkpoint in it.")] = Path(
        "runs/rehearsal"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what the folder holds, but for the policy, and begin.")
    ] = False,
    slime_home: Annotated[
        Path | None,
        typer.Option(help="A checkout of slime.", show_default="$SLIME_HOME", rich_help_panel=_WHERE),
    ] = None,
    megatron_home: Annotated[
        Path | None,
        typer.Option(
            help="A checkout of Megatron-LM with slime's patch.", show_default="$MEGATRON_HOME", rich_help_panel=_WHERE
        ),
    ] = None,
    sglang_python: Annotated[
        Path | None,
        typer.Option(
            help="A Python with sglang and sglang-router.", show_default="$SGLANG_PYTHON", rich_help_panel=_WHERE
        ),
    ] = None,
    slime_python: Annotated[
        Path | None,
        typer.Option(
            help="A Python with slime's packages.",
            show_default="$SLIME_PYTHON, else the one of sglang",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    ranks: Annotated[int, typer.Option(min=1, help="Trainers that share a batch.", rich_help_panel=_WHAT)] = 1,
    asynchronous: Annotated[
        bool, typer.Option("--async", help="slime's train_async.py in place of train.py.", rich_help_panel=_WHAT)
    ] = False,
) -> None:
    """Rehearse a whole training on slime on this machine's CPU: slime's train.py, Megatron, SGLang, its router.

    SLIME_HOME=~/slime MEGATRON_HOME=~/Megatron-LM \\
      SGLANG_PYTHON=~/sglang/bin/python slime-search rehearse

    slime-search rehearse --recipe my_recipe --steps 10 -- --use-tis

    The quickstart's tiny policy is trained by slime's own loop, on the
    quickstart's questions, with a recipe's hooks as on GPUs. Held-out questions
    are asked before and after. docs/rehearsal.md says how to install what it
    needs, and what a run on GPUs does otherwise.

    Leaves the trained model, dumps, TensorBoard files, checkpoints, curve.png,
    rollouts.html and summary.json in the output folder.
    """
    from slime_search.local.services import restart_with_cpu_env

    restart_with_cpu_env("slime_search.cli")
    from slime_search.rehearsal.installation import installation
    from slime_search.rehearsal.recipes import rehearsed
    from slime_search.rehearsal.rehearsal import Rehearsal, RehearsalConfig
    from slime_search.rehearsal.starting import start_of

    end_on_signals()
    with one_sentence(interrupted=f"\nInterrupted. The same command goes on from the last checkpoint in {output}."):
        named = rehearsed(recipe, dialect, red=red)
        found = installation(
            os.environ,
            slime_home=slime_home,
            megatron_home=megatron_home,
            sglang_python=sglang_python,
            slime_python=slime_python,
        )
        folder = start_of(output.absolute(), quickstart.absolute() if quickstart else None)
        if fresh:
            folder.forget()
        config = RehearsalConfig(
            folder,
            named,
            found,
            steps or named.preset.steps,
            seed=seed,
            cold_start_steps=cold_start_steps,
            ranks=ranks,
            script="train_async" if asynchronous else "train",
            slime_flags=tuple(slime_flags or ()),
        )
        Rehearsal(config, Console()).run()
