"""The ``slime-search`` command."""

import importlib.util
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from slime_search import __version__
from slime_search.errors import SlimeSearchError

app = typer.Typer(
    name="slime-search",
    help="Train LLM search agents by reinforcement learning on slime.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
console = Console()
errors = Console(stderr=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"slime-search {__version__}")
        raise typer.Exit


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


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")] = False,
) -> None:
    """Train LLM search agents by reinforcement learning on slime."""


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="Folder for the model, metrics, curve and report.")] = Path(
        "runs/quickstart"
    ),
    seed: Annotated[int, typer.Option(help="Seeds the encyclopedia, the start and the sampling.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="GRPO steps: 50 of 128 rollouts each; with a teacher 24 of 32.")
    ] = None,
    cold_start_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Supervised steps before that, of each model; 500 to 800 by recipe and dialect."),
    ] = None,
    recipe: Annotated[Shown, typer.Option(help="One agent that searches, two agents, or one that has a teacher.")] = (
        Shown.SEARCH_R1
    ),
    dialect: Annotated[Speech, typer.Option(help="Of search-r1: tags, or OpenAI tool calls over the chat API.")] = (
        Speech.TAGS
    ),
) -> None:
    """Watch a search agent learn on this machine, in minutes, without a GPU or a download.

    A 0.7-million-parameter model imitates a poor teacher, then learns by GRPO to search an invented encyclopedia and to
    answer from what it finds. Held-out questions are about people, towns and companies that it never saw in training.

    Leaves summary.json, metrics.jsonl, curve.png, report.html and the trained model in the output folder.
    """
    _need("local", "torch", "transformers", "pyarrow", "bm25s")
    _with_cpu_settings()
    from slime_search.local.plays import play_of
    from slime_search.local.quickstart import Quickstart, QuickstartConfig

    # A run that is told to stop ends as after Ctrl-C: what it has is written and its servers are stopped.
    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    config = QuickstartConfig(
        output=output, seed=seed, play=play_of(recipe, dialect), steps=steps, cold_start_steps=cold_start_steps
    )
    try:
        Quickstart(config, console).run()
    except KeyboardInterrupt:
        errors.print(f"\nInterrupted. What was done until now is in {output}.")
        raise typer.Exit(130) from None
    except SlimeSearchError as error:
        errors.print(f"[red]{type(error).__name__}:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None


_FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True}


@app.command("doctor", context_settings=_FORWARD, add_help_option=False)
def doctor(context: typer.Context) -> None:
    """Check a whole set-up before a GPU hour is spent on it (--help for its options)."""
    from slime_search.doctor.__main__ import app as examiner

    examiner(context.args, prog_name="slime-search doctor")


@app.command("rollout", context_settings=_FORWARD, add_help_option=False)
def rollout(context: typer.Context) -> None:
    """Ask a live engine questions outside training, and watch every turn and search (--help for its options)."""
    _need("local", "transformers")
    from slime_search.rollouts.app import app as asker

    asker(context.args, prog_name="slime-search rollout")


@app.command("curves", context_settings=_FORWARD, add_help_option=False)
def curves(context: typer.Context) -> None:
    """Draw what trainings did over their steps, from slime's dumps, TensorBoard or a quickstart (--help for more)."""
    _need("curves", "matplotlib")
    from slime_search.curves.app import app as drawer

    drawer(context.args, prog_name="slime-search curves")


@app.command("serve-retriever", context_settings=_FORWARD, add_help_option=False)
def serve_retriever(context: typer.Context) -> None:
    """Serve a corpus over Search-R1's /retrieve protocol (--help for its options)."""
    _need("bm25", "fastapi", "bm25s", "prometheus_client")
    from slime_search.retrieval.__main__ import app as server

    server(context.args, prog_name="slime-search serve-retriever")


@app.command("build-index", context_settings=_FORWARD, add_help_option=False)
def build_index(context: typer.Context) -> None:
    """Build the vectors of a corpus, or convert a FAISS index, into a store that is served (--help for its options)."""
    _need("retrieval", "faiss", "torch", "sentence_transformers")
    from slime_search.retrieval.build.__main__ import app as builder

    builder(context.args, prog_name="slime-search build-index")


@app.command("download-wiki18", context_settings=_FORWARD, add_help_option=False)
def download_wiki18(context: typer.Context) -> None:
    """Download Search-R1's corpus and index (--help for its options)."""
    _need("retrieval", "huggingface_hub")
    from slime_search.retrieval.download.__main__ import app as downloader

    downloader(context.args, prog_name="slime-search download-wiki18")


@app.command("prepare-data", context_settings=_FORWARD, add_help_option=False)
def prepare_data(context: typer.Context) -> None:
    """Make training and test files of question sets (--help for its options)."""
    _need("data", "pyarrow", "huggingface_hub")
    from slime_search.data.prepare_app import app as preparer

    preparer(context.args, prog_name="slime-search prepare-data")


@app.command("evaluate", context_settings=_FORWARD, add_help_option=False)
def evaluate(context: typer.Context) -> None:
    """Score an agent on test sets, with 95 % intervals (--help for its options)."""
    _need("evaluation", "numpy", "pyarrow", "transformers", "yaml")
    from slime_search.evaluation.evaluate_app import app as evaluator

    evaluator(context.args, prog_name="slime-search evaluate")


@app.command("compare", context_settings=_FORWARD, add_help_option=False)
def compare(context: typer.Context) -> None:
    """Compare two evaluations question by question (--help for its options)."""
    _need("evaluation", "numpy")
    from slime_search.evaluation.compare_app import app as comparer

    comparer(context.args, prog_name="slime-search compare")


@app.command("serve-searcher", context_settings=_FORWARD, add_help_option=False)
def serve_searcher(context: typer.Context) -> None:
    """Serve the Searcher that a Thinker delegates its questions to (--help for its options)."""
    _need("searcher", "fastapi", "prometheus_client", "transformers", "uvicorn")
    from slime_search.searcher.__main__ import app as server

    server(context.args, prog_name="slime-search serve-searcher")


@app.command("serve-engine", context_settings=_FORWARD, add_help_option=False)
def serve_engine(context: typer.Context) -> None:
    """Serve a small model over SGLang's /generate, on a CPU (--help for its options)."""
    _need("local", "torch", "transformers")
    from slime_search.local.engine.__main__ import app as server

    server(context.args, prog_name="slime-search serve-engine")


@app.command("view", context_settings=_FORWARD, add_help_option=False)
def view(context: typer.Context) -> None:
    """Look at rollouts in a browser, or export them as one page (--help for its options)."""
    _need("view", "fastapi", "jinja2", "uvicorn")
    from slime_search.viewer.__main__ import app as viewer

    viewer(context.args, prog_name="slime-search view")


def _need(extra: str, *modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        command = escape(f"pip install 'slime-search[{extra}]'")
        errors.print(f"{', '.join(missing)} not installed. Run: {command}", soft_wrap=True)
        raise typer.Exit(1)


def _with_cpu_settings() -> None:
    """Starts this process again with the allocator and thread settings that only take effect at its start."""
    from slime_search.local.cpu import CPU_ENV

    if any(name not in os.environ for name in CPU_ENV):
        environment = {**CPU_ENV, **os.environ}
        os.execve(sys.executable, [sys.executable, "-m", "slime_search.cli", *sys.argv[1:]], environment)


if __name__ == "__main__":
    app()
