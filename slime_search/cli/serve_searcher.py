"""``slime-search serve-searcher``."""

import signal
from types import FrameType
from typing import Annotated

import typer

from slime_search.cli.checking import look_for_model, url
from slime_search.cli.console import one_sentence
from slime_search.config import load_config
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.recipes.thinker_searcher.service.server import EngineApi, FrozenModel, searcher_and_warm_up

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    model: Annotated[
        str,
        typer.Option("--model", "--model-path", help="The frozen model's folder or Hub name; its tokenizer is read."),
    ],
    engine_url: Annotated[
        str, typer.Option(help="Where an inference server serves that model, without a path.", callback=url)
    ] = "http://127.0.0.1:30001",
    engine_api: Annotated[
        EngineApi, typer.Option(help="sglang: SGLang's /generate. openai: /v1/completions, as vLLM has it.")
    ] = EngineApi.SGLANG,
    engine_model: Annotated[
        str, typer.Option(help="The model's name at an openai server.", show_default="--model")
    ] = "",
    sessions: Annotated[int, typer.Option(min=1, help="Questions answered at the same time.")] = 256,
    queue_size: Annotated[int, typer.Option(min=0, help="Questions that may wait; more are answered 503.")] = 4_096,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")] = 8001,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="End when stdin ends; for a parent that holds it as a pipe.")
    ] = False,
) -> None:
    """Serves the Searcher that a Thinker delegates its questions to: an agent that searches and answers.

    slime-search serve-searcher --model Qwen/Qwen2.5-1.5B-Instruct \\
      --engine-url http://127.0.0.1:30001

    Its routes are POST /search {"queries": ["Who directed Inception?"]}, /ready,
    /health and /metrics.

    How it searches and answers is read from the environment, as the Thinker's
    recipe reads it: SLIME_SEARCH_LOCAL__SEARCH_URL (the retriever,
    http://127.0.0.1:8000/retrieve), SLIME_SEARCH_TOPK (3),
    SLIME_SEARCH_SEARCHER_MAX_TURNS (3), SLIME_SEARCH_SEARCHER_TURN_TOKENS (400)
    and so on. SEARCHER_ENGINE_KEY is the bearer token of an openai server.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    from slime_search.recipes.thinker_searcher.service.server import serve

    frozen = FrozenModel(model, engine_url, engine_api, engine_model or model)
    with one_sentence():
        look_for_model("--model", model)
        config = load_config({}, kind=ThinkerConfig).model_copy(update={"searcher_concurrency": sessions})
        searcher, warm_up = searcher_and_warm_up(config, frozen)
        serve(
            searcher,
            warm_up,
            host=host,
            port=port,
            concurrency=sessions,
            queue_size=queue_size,
            exit_with_parent=exit_with_parent,
        )


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ends the process with code 0; the server shuts down first, then raises the signal again."""
    raise SystemExit(0)
