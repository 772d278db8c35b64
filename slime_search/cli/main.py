"""The list of subcommands: what each needs installed, and the file that holds it."""

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from typer.core import TyperCommand

from slime_search import __version__
from slime_search.cli.console import need, wrong_option

app = typer.Typer(
    name="slime-search",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


class Subcommand(NamedTuple):
    """A subcommand: its module in ``slime_search.cli`` has an ``app``, which is imported when it is called."""

    module: str
    help: str
    extra: str = ""
    """The extra of ``pip install 'slime-search[…]'`` that brings ``needs``."""
    needs: tuple[str, ...] = ()


SUBCOMMANDS = {
    "quickstart": Subcommand(
        "quickstart",
        "Watch a search agent learn on this machine, in minutes, without a GPU or a download.",
        "local",
        ("torch", "transformers", "pyarrow", "bm25s"),
    ),
    "rehearse": Subcommand(
        "rehearse",
        "Rehearse a training on slime, with its own trainer and SGLang, on this machine's CPU.",
        "local",
        ("torch", "transformers", "pyarrow", "bm25s", "yaml"),
    ),
    "doctor": Subcommand("doctor", "Check a whole set-up before a GPU hour is spent on it."),
    "launch": Subcommand("launch", "Run a training beside the services that it needs, in one tmux session."),
    "checkpoints": Subcommand("checkpoints", "Keep, push and find again the checkpoints of a training on slime."),
    "rollout": Subcommand(
        "rollout",
        "Ask a live engine questions outside training, and watch every turn and search.",
        "local",
        ("transformers",),
    ),
    "evaluate": Subcommand(
        "evaluate",
        "Score an agent on test sets, with 95 % intervals.",
        "evaluation",
        ("numpy", "pyarrow", "transformers", "yaml"),
    ),
    "compare": Subcommand("compare", "Compare two evaluations question by question.", "evaluation", ("numpy",)),
    "view": Subcommand(
        "view",
        "Look at rollouts in a browser, or export them as one page.",
        "view",
        ("fastapi", "jinja2", "uvicorn"),
    ),
    "curves": Subcommand(
        "curves",
        "Draw what trainings did over their steps, from slime's dumps, TensorBoard or a quickstart.",
        "curves",
        ("matplotlib",),
    ),
    "prepare-data": Subcommand(
        "prepare_data",
        "Make training and test files of question sets.",
        "data",
        ("pyarrow", "huggingface_hub"),
    ),
    "serve-retriever": Subcommand(
        "serve_retriever",
        "Serve a corpus over Search-R1's /retrieve protocol.",
        "bm25",
        ("fastapi", "bm25s", "prometheus_client", "Stemmer"),
    ),
    "build-index": Subcommand(
        "build_index",
        "Build the vectors of a corpus, or convert a FAISS index, into a store that is served.",
        "retrieval",
        ("faiss", "torch", "sentence_transformers"),
    ),
    "download-wiki18": Subcommand(
        "download_wiki18", "Download Search-R1's corpus and index.", "retrieval", ("huggingface_hub",)
    ),
    "serve-searcher": Subcommand(
        "serve_searcher",
        "Serve the Searcher that a Thinker delegates its questions to.",
        "searcher",
        ("fastapi", "prometheus_client", "transformers", "uvicorn"),
    ),
    "serve-engine": Subcommand(
        "serve_engine",
        "Serve a small model over SGLang's /generate, on a CPU.",
        "local",
        ("torch", "transformers"),
    ),
}


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"slime-search {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train LLM search agents by reinforcement learning on slime.

    slime-search quickstart

    slime-search COMMAND --help shows what a command takes, with examples.
    """


class _Unparsed(TyperCommand):
    """Keeps every word behind the subcommand's name, ``--`` and ``--help`` included: its module reads them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return []


def _forwarding(name: str, subcommand: Subcommand) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        need(subcommand.extra, *subcommand.needs)
        loaded = import_module(f"slime_search.cli.{subcommand.module}")
        try:
            code = loaded.app(context.args, prog_name=f"slime-search {name}", standalone_mode=False)
        except typer.BadParameter as error:
            raise wrong_option(error) from None
        if isinstance(code, int):
            raise typer.Exit(code)

    return run


for _name, _subcommand in SUBCOMMANDS.items():
    app.command(_name, cls=_Unparsed, help=_subcommand.help)(_forwarding(_name, _subcommand))
