"""``slime-search compare``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slime_search.cli.console import one_sentence
from slime_search.evaluation.comparison import compare as compared
from slime_search.evaluation.comparison import markdown_comparison, terminal_comparison
from slime_search.evaluation.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="The --output folder of an evaluation.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="That of another one.", show_default=False)],
    show: Annotated[
        int,
        typer.Option(
            min=0, help="Questions to print of those that went from wrong to right, and of those that went back."
        ),
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and no tables.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables as Markdown.", metavar="FILE", show_default=False)
    ] = None,
) -> None:
    """Compare two evaluations on the questions that both answered.

    slime-search compare runs/evaluate-base runs/evaluate-trained

    Prints the difference B − A with its paired 95 % interval, which questions
    went from wrong to right and back, and, where an agent can call another one,
    when it did and how often it was right then. Rollouts that a service failed
    are left out.
    """
    with one_sentence():
        comparison = compared(Store(run_a).finished(), Store(run_b).finished())
        if markdown is not None:
            markdown.write_text(markdown_comparison(comparison, (run_a.name, run_b.name)))
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), indent=2, ensure_ascii=False))
    else:
        Console().print(terminal_comparison(comparison, show))
