"""Ask a question, and watch planner and executors work.

    python -m sglang.launch_server --model-path /root/Qwen2.5-3B_coda/hf_99 &
    python infer.py --checkpoint /root/Qwen2.5-3B_coda/hf_99 --engine-url http://127.0.0.1:30000 "Who …?"

Any server with SGLang's /generate will do; the checkpoint gives the tokenizer. Without --engine-url the embedded engine
serves the checkpoint, which is for tiny models on a CPU. Searches go to a running retriever.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from generate_with_coda import CODA_CONFIGS  # type: ignore[import-not-found]
from rich.console import Console
from rich.markup import escape

from slime_search.cli.console import end_on_signals, one_sentence
from slime_search.core.callbacks import use_callback
from slime_search.data.questions import Question
from slime_search.errors import SlimeSearchError
from slime_search.evaluation.target import Policy, Target, opened
from slime_search.evaluation.transcript import Transcript
from slime_search.hooks.driving import drive, sampling_params
from slime_search.hooks.samples import read_trajectory
from slime_search.transport.client import close_sessions

console = Console()


def main(
    question: Annotated[list[str] | None, typer.Argument(help="Questions; without any they are asked for.")] = None,
    checkpoint: Annotated[str, typer.Option(help="A Hugging Face folder, such as train.sh's SAVE/hf_N.")] = "",
    engine_url: Annotated[str | None, typer.Option(help="A server of it.", show_default="embedded")] = None,
    search_url: Annotated[str | None, typer.Option(help="The retriever's /retrieve.", show_default="config")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    turn_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a turn may have.")] = 512,
) -> None:
    """Ask questions of a checkpoint and watch planner and executors turn by turn."""
    # Nothing is trained on here, so no log-probabilities are needed, and a server that is down is reported soon.
    config = {**CODA_CONFIGS, "return_logprob": False, "engine_attempts": 2}
    if search_url:
        config["local"] = {**CODA_CONFIGS["local"], "search_url": search_url}
    logging.getLogger("slime_search.core.failures").setLevel(logging.ERROR)
    params = sampling_params(temperature=temperature, max_new_tokens=turn_tokens)
    end_on_signals()
    with one_sentence("Interrupted."):
        if not checkpoint:
            raise SlimeSearchError("--checkpoint: name the folder of the model, or that of its tokenizer")
        with opened(Policy("coda", engine_url, checkpoint, config=config)) as (target, *_):
            _converse(question or iter(_typed, ""), target, params)


def _converse(questions: Iterable[str], target: Target, params: Mapping[str, Any]) -> None:
    """Questions are typed in while no event loop runs, so that Ctrl-C ends the waiting for one, too."""
    with use_callback(Transcript(console)), asyncio.Runner() as runner:
        try:
            for question in questions:
                runner.run(_answer(question, target, params))
        finally:
            runner.run(close_sessions())


def _typed() -> str:
    """The next question; nothing at the end of the input."""
    try:
        return console.input("[bold]question:[/bold] ")
    except EOFError:
        return ""


async def _answer(question: str, target: Target, params: Mapping[str, Any]) -> None:
    sample = target.sample(Question(id="asked", source="", text=question, answers=()))
    *executors, planner = map(read_trajectory, (await drive(target.recipe, target.args, sample, params)).samples)
    if planner.error is not None:
        # The transcript has said it.
        raise typer.Exit(1)
    searches = sum(len(executor.calls) for executor in executors)
    how = f"{len(executors)} tasks, {searches} searches, ended {planner.ending}"
    console.print(f"[bold]answer:[/bold] {escape(planner.answer or 'none')}  [dim]({how})[/dim]")


if __name__ == "__main__":
    typer.run(main)
