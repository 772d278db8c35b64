"""``slime-search serve-engine``."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from slime_search.cli.console import one_sentence
from slime_search.errors import ConfigError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    model_path: Annotated[
        Path, typer.Option("--model-path", "--model", help="A Hugging Face folder with a causal language model.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 30000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the model.", show_default="torch's")
    ] = None,
    max_running_requests: Annotated[int, typer.Option(min=1, help="Requests at once; further ones wait.")] = 256,
    context_length: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of a request.", show_default="the model's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling, for requests without a sampling_seed.")] = 0,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="End when stdin ends; for a parent that holds it as a pipe.")
    ] = False,
) -> None:
    """Serves a small model over SGLang's /generate and chat protocol, on a CPU.

    slime-search serve-engine --model-path runs/quickstart/model

    It is for trying recipes and tests without a GPU; real models need SGLang.
    """
    with one_sentence():
        _check_folder(model_path)
    # Threads that wait busily starve each other as soon as another program uses a core. This is read once, when torch
    # is loaded, and so it has to come first.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from transformers.utils.logging import disable_progress_bar

    from slime_search.local.engine.server import serve

    disable_progress_bar()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with one_sentence():
        serve(
            model_path,
            host,
            port,
            threads=threads,
            max_running_requests=max_running_requests,
            context_length=context_length,
            seed=seed,
            exit_with_parent=exit_with_parent,
        )
    # Taking the interpreter apart after torch and transformers may last longer than a second.
    logging.shutdown()
    os._exit(0)


def _check_folder(path: Path) -> None:
    """Raises ConfigError where no model can be in it."""
    if not path.is_dir():
        raise ConfigError(f"--model-path {path}: there is no such folder", "name a Hugging Face folder with a model")
    if not (path / "config.json").is_file():
        raise ConfigError(f"--model-path {path}: has no config.json", "name a Hugging Face folder with a model")
