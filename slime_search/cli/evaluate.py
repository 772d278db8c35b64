"""``slime-search evaluate``."""

import logging
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from slime_search.cli.console import end_on_signals, fail, one_sentence
from slime_search.cli.options import (
    Before,
    Checkpoint,
    Concurrency,
    EngineUrl,
    ModelName,
    ProtocolName,
    ProtocolOption,
    QuickstartFolder,
    RecipeName,
    Temperature,
    TurnTokens,
    opened_by_options,
)
from slime_search.config import ENV_PREFIX
from slime_search.errors import ConfigError
from slime_search.evaluation.published import published_of
from slime_search.evaluation.questions import read_sets
from slime_search.evaluation.running import Plan
from slime_search.evaluation.running import evaluate as run_evaluation
from slime_search.evaluation.store import Store
from slime_search.evaluation.summary import Summary
from slime_search.evaluation.tables import published_table, terminal_tables
from slime_search.evaluation.target import Opened

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

_WHAT = "What is evaluated"
_QUESTIONS = "Questions"
_SAMPLING = "Sampling"
_RESULTS = "Results"
_SEARCH_URL = f"{ENV_PREFIX}LOCAL__SEARCH_URL"


class Size(StrEnum):
    """Model sizes that there are published numbers of."""

    SMALL = "3B"
    LARGE = "7B"
    ALL = "all"


@app.command()
def evaluate(
    recipe: RecipeName = None,
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Baseline: answer in one turn, without a search.", rich_help_panel=_WHAT)
    ] = False,
    rag: Annotated[
        bool, typer.Option("--rag", help="Baseline: search once for the question, then answer.", rich_help_panel=_WHAT)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A YAML file with the recipe's dict.", metavar="FILE", rich_help_panel=_WHAT),
    ] = None,
    search_url: Annotated[
        str | None,
        typer.Option("--search-url", help="The retriever's /retrieve.", metavar="URL", rich_help_panel=_WHAT),
    ] = None,
    engine_url: EngineUrl = None,
    protocol: ProtocolOption = ProtocolName.GENERATE,
    model: ModelName = "default",
    checkpoint: Checkpoint = None,
    quickstart: QuickstartFolder = None,
    before: Before = False,
    test_set: Annotated[
        list[str] | None,
        typer.Option(
            "--test-set",
            help="Questions: a parquet file of prepare-data, or a jsonl file of FlashRAG's. Give it several times for "
            "several data sets. Without NAME= a set is called as its file.",
            metavar="[NAME=]FILE",
            rich_help_panel=_QUESTIONS,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many of each set, drawn by the seed.", rich_help_panel=_QUESTIONS),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Rollouts a question.", rich_help_panel=_SAMPLING)] = 1,
    temperature: Temperature = 0.0,
    turn_tokens: TurnTokens = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the draw, the sampling and the intervals.", rich_help_panel=_SAMPLING)
    ] = 0,
    concurrency: Concurrency = 64,
    output: Annotated[
        Path, typer.Option(help="The evaluation's folder; one that was interrupted goes on.", rich_help_panel=_RESULTS)
    ] = Path("runs/evaluate"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what the folder holds, and begin.", rich_help_panel=_RESULTS)
    ] = False,
    published: Annotated[
        Size | None,
        typer.Option(help="Print the published numbers of models of this size beside.", rich_help_panel=_RESULTS),
    ] = None,
) -> None:
    """Score an agent on test sets: EM, F1, retrieval hits, searches, tokens and
    seconds a question, with 95 % intervals.

    slime-search evaluate --quickstart runs/quickstart

    slime-search evaluate --engine-url http://127.0.0.1:30000 \\
      --search-url http://127.0.0.1:8000/retrieve \\
      --test-set data/test/nq.parquet --test-set data/test/hotpotqa.parquet

    Leaves rollouts.jsonl, settings.json, summary.json and table.md in the
    output folder. After Ctrl-C or a kill the same command goes on, and makes
    rollouts again that a service failed.
    """
    end_on_signals()
    # Failures are counted here, and printed at the end.
    logging.getLogger("slime_search.core.failures").setLevel(logging.ERROR)
    console = Console()
    store = Store(output)
    with one_sentence(f"Interrupted. What was done is in {output}; the same command goes on."):
        if samples > 1 and temperature == 0:
            raise ConfigError(f"--samples {samples}: greedy samples are all the same; set --temperature")
        baseline = _baseline(recipe, no_search, rag, quickstart)
        with opened_by_options(
            recipe=baseline or recipe,
            engine_url=engine_url,
            protocol=protocol,
            model=model,
            checkpoint=checkpoint,
            quickstart=quickstart,
            before=before,
            concurrency=concurrency,
            config=_config(config, search_url, quickstart),
        ) as opened:
            plan = Plan(
                sets=read_sets(_test_sets(test_set, opened, quickstart), limit=limit, seed=seed),
                samples=samples,
                temperature=temperature,
                turn_tokens=turn_tokens or opened.turn_tokens,
                seed=seed,
                concurrency=concurrency,
            )
            summary = run_evaluation(
                opened.target,
                plan,
                store,
                console,
                weights=_own_weights(opened, engine_url, quickstart),
                own_services=quickstart is not None,
                fresh=fresh,
            )
    _show(console, summary, store, published)


def _show(console: Console, summary: Summary, store: Store, published: Size | None) -> None:
    console.print(terminal_tables(summary))
    if published is not None:
        console.print(published_table(summary, published_of(published)))
    console.print(f"Rollouts, numbers and a Markdown table are in {store.folder}.", soft_wrap=True, highlight=False)
    if summary.failed:
        services = ", ".join(f"{count:,} by the {service}" for service, count in summary.services.most_common())
        fail(
            f"{summary.failed:,} rollouts were failed by infrastructure ({services}) and are in no score. Look after "
            "it and run the same command again, which makes just those again."
        )


def _baseline(recipe: str | None, no_search: bool, rag: bool, quickstart: Path | None) -> str | None:
    """The baseline's name among the recipes, if one is asked for."""
    asked = [name for name, wanted in (("no-search", no_search), ("rag", rag)) if wanted]
    if asked and quickstart is not None:
        raise ConfigError(f"--{asked[0]}: a quickstart's tiny model reads no instructions; evaluate it as it is")
    if len(asked) + (recipe is not None) > 1:
        others = [f"--{name}" for name in asked] + ([f"--recipe {recipe}"] if recipe else [])
        raise ConfigError(f"{' and '.join(others)}: choose one of them")
    return asked[0] if asked else None


def _config(path: Path | None, search_url: str | None, quickstart: Path | None) -> Mapping[str, Any]:
    """The recipe's dict."""
    if quickstart is not None and (path or search_url):
        raise ConfigError("--config, --search-url: a quickstart brings its own; leave them out")
    config = {} if path is None else _read_yaml(path)
    if search_url is not None:
        if _SEARCH_URL in map(str.upper, os.environ):
            raise ConfigError(f"--search-url {search_url}: the environment has {_SEARCH_URL}, which wins; unset it")
        config = {**config, "local": {**config.get("local", {}), "search_url": search_url}}
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not YAML ({error})") from None
    # slime's own file has the recipe's dict under a key.
    config = config.get("slime_search", config) if isinstance(config, dict) else config
    if not isinstance(config, dict) or not isinstance(config.get("local", {}), dict):
        raise ConfigError(f"--config {path}: write the recipe's keys and values, such as max_turns: 3")
    return config


def _test_sets(named: Sequence[str] | None, opened: Opened, quickstart: Path | None) -> Sequence[str]:
    if named:
        return named
    if opened.test_set is None:
        raise ConfigError("--test-set: name a file of questions, such as data/test/nq.parquet of prepare-data")
    return [f"held-out={opened.test_set}"]


def _own_weights(opened: Opened, engine_url: str | None, quickstart: Path | None) -> Sequence[Path]:
    """The folders of the models that this process has served."""
    if engine_url is not None:
        return []
    model = Path(opened.target.args.hf_checkpoint)
    frozen = [] if quickstart is None else [quickstart / "frozen"]
    return [folder for folder in (model, *frozen) if folder.exists()]
