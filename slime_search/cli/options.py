"""How the command line says which recipe is asked, and where its model is."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slime_search.cli.checking import look_for_model, url
from slime_search.errors import ConfigError
from slime_search.evaluation.recipes import RECIPES
from slime_search.evaluation.target import Opened, Policy, opened, opened_quickstart

API_KEY = "OPENAI_API_KEY"
"""The environment variable with the engine's bearer token."""

_ENGINE = "Engine"
_SAMPLING = "Sampling"


class ProtocolName(StrEnum):
    """The values of ``engines.endpoint.Protocol``."""

    GENERATE = "generate"
    COMPLETIONS = "completions"


RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help=f"One of {', '.join(RECIPES)}, or a module on PYTHONPATH with generate and reward_func.",
        show_default="search-r1",
        rich_help_panel=_ENGINE,
        metavar="NAME",
    ),
]
EngineUrl = Annotated[
    str | None,
    typer.Option(
        "--engine-url",
        help=f"The inference server, such as http://127.0.0.1:30000. {API_KEY} holds its bearer token, if it has one.",
        show_default=False,
        rich_help_panel=_ENGINE,
        metavar="URL",
        callback=url,
    ),
]
ProtocolOption = Annotated[
    ProtocolName,
    typer.Option(
        "--protocol",
        help="How the server is asked for tokens: SGLang's /generate, or OpenAI's /v1/completions, which most servers "
        "have and which tells no log-probabilities. Recipes that call tools use /v1/chat/completions of either.",
        rich_help_panel=_ENGINE,
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="The model's name on the server, as /v1/models lists it; SGLang takes any.",
        rich_help_panel=_ENGINE,
        metavar="NAME",
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="A Hugging Face folder or name. With --engine-url it gives the tokenizer; alone, the embedded engine "
        "serves it, which is for tiny models on a CPU.",
        show_default="the server's model",
        rich_help_panel=_ENGINE,
        metavar="FOLDER",
    ),
]
QuickstartFolder = Annotated[
    Path | None,
    typer.Option(
        "--quickstart",
        help="The folder of a finished quickstart: its recipe, model and retriever, in place of the options above.",
        show_default=False,
        rich_help_panel=_ENGINE,
        metavar="FOLDER",
    ),
]
Before = Annotated[
    bool,
    typer.Option(
        "--before", help="Ask the quickstart's policy as it was before reinforcement learning.", rich_help_panel=_ENGINE
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature",
        min=0.0,
        help="Of the sampling; 0 takes the likeliest token each time.",
        rich_help_panel=_SAMPLING,
    ),
]
TurnTokens = Annotated[
    int | None,
    typer.Option(
        "--turn-tokens",
        min=1,
        help="The most tokens of a turn.",
        show_default="512; with --quickstart its own",
        rich_help_panel=_SAMPLING,
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, help="Rollouts at a time.", rich_help_panel=_SAMPLING)
]


@contextmanager
def opened_by_options(
    *,
    recipe: str | None,
    engine_url: str | None,
    protocol: ProtocolName,
    model: str,
    checkpoint: str | None,
    quickstart: Path | None,
    before: bool,
    concurrency: int,
    config: Mapping[str, Any] | None = None,
) -> Iterator[Opened]:
    """The target that the options name, with the servers that it needs running as long as the block does.

    Args:
        config: the recipe's dict. A quickstart has its own.

    Raises:
        ConfigError: options contradict each other, or name no engine or recipe that there is.
        DataError: the quickstart's folder holds no finished one.
        ServiceDied: a server of ours did not start.
    """
    if quickstart is not None:
        for option, value in (("--recipe", recipe), ("--engine-url", engine_url), ("--checkpoint", checkpoint)):
            if value is not None:
                raise ConfigError(f"{option} {value}: --quickstart {quickstart} brings its own; leave one of them out")
        with opened_quickstart(quickstart, before=before) as found:
            yield found
        return
    if before:
        raise ConfigError("--before: is a quickstart's; name its folder with --quickstart, or leave it out")
    if checkpoint is not None:
        look_for_model("--checkpoint", checkpoint)
    policy = Policy(
        recipe=recipe or Policy.recipe,
        engine_url=engine_url and engine_url.rstrip("/").removesuffix("/v1").removesuffix("/generate"),
        checkpoint=checkpoint,
        protocol=protocol.value,
        model=model,
        token=os.environ.get(API_KEY),
        concurrency=concurrency,
        config=config or {},
    )
    with opened(policy) as found:
        yield found
