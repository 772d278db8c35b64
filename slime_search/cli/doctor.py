"""``slime-search doctor``."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from slime_search.cli.checking import url
from slime_search.cli.console import refuse_variables, stderr
from slime_search.config import RETRIEVER_TOKEN
from slime_search.ops.doctor.examine import examine
from slime_search.ops.doctor.results import show
from slime_search.ops.doctor.settings import EXAMPLES, RunSettings, launch_settings
from slime_search.ops.doctor.setup import Setup

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def doctor(
    slime_options: Annotated[
        list[str] | None,
        typer.Argument(help="Options that the training script will be given, after --: -- --rollout-top-p 0.9."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The YAML file that slime gets as --custom-config-path.", show_default="$CUSTOM_CONFIG"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The module with generate and reward_func, as in --custom-generate-function-path MODULE.generate; or "
            f"one of {', '.join(EXAMPLES)}.",
            show_default="that of $TRAIN_SCRIPT, else generate_with_search",
        ),
    ] = None,
    hf_checkpoint: Annotated[
        Path | None, typer.Option(help="The policy's Hugging Face folder.", show_default="$HF_CHECKPOINT")
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option(help="Training questions, .parquet or .jsonl.", show_default="$DATA/train.parquet")
    ] = None,
    eval_data: Annotated[
        list[Path] | None, typer.Option(help="Test questions; may be repeated.", show_default="$DATA/test/*.parquet")
    ] = None,
    corpus_path: Annotated[
        Path | None,
        typer.Option(
            "--corpus-path", "--corpus_path", help="The retriever's passages, .jsonl.", show_default="$CORPUS_PATH"
        ),
    ] = None,
    index_path: Annotated[
        Path | None,
        typer.Option("--index-path", "--index_path", help="The retriever's index.", show_default="$INDEX_PATH"),
    ] = None,
    engine_url: Annotated[
        str | None,
        typer.Option(help="Also look at this SGLang server or router.", show_default="none is asked", callback=url),
    ] = None,
    measures_coverage: Annotated[
        bool,
        typer.Option(
            "--coverage",
            help="Also read the whole corpus for gold answers, and ask a retriever that runs: what EM can be at most.",
        ),
    ] = False,
    coverage_questions: Annotated[
        int, typer.Option(min=1, help="Of each data set, that the retriever is asked for --coverage at most.")
    ] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback where a check itself failed.")
    ] = False,
) -> None:
    """Check a whole set-up before a GPU hour is spent on it: what passes, what does not, and the fix.

    slime-search doctor

    HF_CHECKPOINT=Qwen2.5-3B DATA=data \\
      TRAIN_SCRIPT=examples/search_r1/run_qwen2.5_3B.sh slime-search doctor

    slime-search doctor --engine-url http://127.0.0.1:30000

    slime-search doctor -- --advantage-estimator cispo

    Looks at what run_with_retrieval.sh and the training scripts would run,
    and reads the same environment variables (HF_CHECKPOINT, DATA, CORPUS_PATH,
    RETRIEVER_NAME, RETRIEVAL_SERVER_URL, SLIME_HOME, TRAIN_SCRIPT,
    SLIME_SEARCH_…). Starts nothing and changes nothing.

    Exits with 0 where nothing fails, 1 where something does, no GPU included,
    and 2 for an option or variable that can't be read.
    """
    try:
        given: dict[str, Any] = {"hf_checkpoint": hf_checkpoint} if hf_checkpoint else {}
        run = RunSettings(**given)
        launch = launch_settings(run, corpus_path=corpus_path, index_path=index_path)
    except ValidationError as error:
        refuse_variables(error)
    setup = Setup(
        run=run,
        launch=launch,
        recipe_name=recipe or run.recipe,
        config_file=config or run.custom_config,
        train_data=train_data or run.data / "train.parquet",
        eval_data=eval_data or sorted((run.data / "test").glob("*.parquet")),
        slime_flags=slime_options or (),
        engine_url=engine_url.rstrip("/").removesuffix("/generate") if engine_url else None,
        token=os.environ.get(RETRIEVER_TOKEN) or None,
        measures_coverage=measures_coverage,
        coverage_questions=coverage_questions,
    )
    logging.disable(logging.WARNING)
    try:
        with stderr.status("looking") as status:
            setup.tell = lambda doing: status.update(f"looking at {escape(doing)}")
            report = examine(setup, lambda name: status.update(f"looking at {escape(name)}"))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        show(report, Console(highlight=False), verbose=verbose)
    raise typer.Exit(report.exit_code)
