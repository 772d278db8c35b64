"""Ask a question, and watch planner and executors work.

    python -m sglang.launch_server --model-path /root/Qwen2.5-3B_coda/hf_99 &
    python infer.py --checkpoint /root/Qwen2.5-3B_coda/hf_99 --engine-url http://127.0.0.1:30000 "Who …?"

Any server with SGLang's /generate will do; the checkpoint gives the tokenizer. Without --engine-url the embedded engine
serves the checkpoint, which is for tiny models on a CPU. Searches go to a running retriever.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from generate_with_coda import CODA_CONFIGS  # type: ignore[import-not-found]
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from slime_search.agent import Agent, Budget
from slime_search.config import load_config
from slime_search.data.coda_format import planner_prompt
from slime_search.engines.base import Completion, Engine
from slime_search.engines.sglang import SGLangEngine
from slime_search.errors import SlimeSearchError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.prompting import FilledPrompt
from slime_search.recipes.base import search_tool
from slime_search.recipes.coda import EXECUTOR_TAGS, CodaConfig, executor_budget, planner_tags
from slime_search.recipes.coda_executors import Executors
from slime_search.recipes.coda_prompts import TASK
from slime_search.rollouts.opening import embedded_engine
from slime_search.service import PooledSender, ServiceClient, close_sessions
from slime_search.tokens import TokenCodec
from slime_search.tools.base import Tool, ToolResult
from slime_search.trajectory import Trajectory

console = Console()
_COLOURS = ("green", "magenta", "yellow", "blue")


class WatchedEngine:
    """Shows each turn as soon as it is there. The executors' sessions are known by the number at their end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        completion = await self._engine.generate(input_ids, sampling_params, session_id=session_id)
        _, dash, number = (session_id or "").partition("-executor-")
        who = f"executor {int(number) + 1}" if dash else "planner"
        colour = _COLOURS[int(number) % len(_COLOURS)] if dash else "cyan"
        console.print(Panel(Text(completion.text.strip()), title=who, border_style=colour, title_align="left"))
        return completion


class WatchedSearch:
    """Shows what was found, a line a passage."""

    def __init__(self, search: Tool) -> None:
        self._search = search

    async def __call__(self, query: str) -> ToolResult:
        result = await self._search(query)
        for passage in result.passages:
            line = f"{passage.title.strip()}: {' '.join(passage.text.split())}"
            console.print(Text(f"    {line[: console.width - 8]}", style="dim"), soft_wrap=True)
        return result


def main(
    question: Annotated[list[str] | None, typer.Argument(help="Questions; without any they are asked for.")] = None,
    checkpoint: Annotated[str, typer.Option(help="A Hugging Face folder, such as train.sh's SAVE/hf_N.")] = "",
    engine_url: Annotated[str | None, typer.Option(help="A server of it.", show_default="embedded")] = None,
    search_url: Annotated[str | None, typer.Option(help="The retriever's /retrieve.", show_default="config")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    turn_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a turn may have.")] = 512,
) -> None:
    """Ask questions of a checkpoint and watch planner and executors turn by turn."""
    try:
        if not checkpoint:
            raise SlimeSearchError("--checkpoint: name the folder of the model, or that of its tokenizer")
        overlay = {"local": {"search_url": search_url}} if search_url else {}
        config = load_config(CODA_CONFIGS, overlay, CodaConfig)
        with embedded_engine(checkpoint) if engine_url is None else nullcontext(engine_url) as url:
            asyncio.run(_converse(question or [], checkpoint, url, config, temperature, turn_tokens))
    except (SlimeSearchError, OSError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, EOFError):
        raise typer.Exit(130) from None


async def _converse(
    questions: Sequence[str], checkpoint: str, url: str, config: CodaConfig, temperature: float, turn_tokens: int
) -> None:
    try:
        for question in questions or iter(lambda: console.input("[bold]question:[/bold] "), ""):
            await _answer(question, checkpoint, url, config, temperature, turn_tokens)
    finally:
        await close_sessions()


async def _answer(
    question: str, checkpoint: str, url: str, config: CodaConfig, temperature: float, turn_tokens: int
) -> None:
    """One rollout, wired as the recipe wires it."""
    dialect = planner_tags(config.tasks_per_turn)
    codec = TokenCodec(load_tokenizer(checkpoint), {*dialect.tags, *EXECUTOR_TAGS.tags})
    client = ServiceClient("engine", PooledSender(concurrency=64, timeout_s=config.engine_timeout_s), attempts=2)
    engine = WatchedEngine(SGLangEngine(client, url, return_logprob=False))
    sampling = {"temperature": temperature, "skip_special_tokens": False, "spaces_between_special_tokens": False}
    budget = Budget(config.max_turns, config.max_corrections, turn_tokens, config.max_observation_tokens)
    session = uuid.uuid4().hex
    executors = Executors(
        Agent(engine, EXECUTOR_TAGS, {"search": WatchedSearch(search_tool(config))}, codec),
        FilledPrompt(codec, config.executor.prompt, TASK, {}),
        sampling,
        executor_budget(config.executor, budget),
        session_id=f"{session}-executor",
        cancelled=lambda: False,
    )
    planner = Trajectory(codec.prompt([{"role": "user", "content": planner_prompt(question)}]))
    await Agent(engine, dialect, {"task": executors}, codec).run(planner, sampling, budget, session_id=session)
    if planner.error is not None:
        raise SlimeSearchError(planner.error)
    searches = sum(len(executor.calls) for executor in executors.trajectories)
    told = f"{len(executors.trajectories)} tasks, {searches} searches, ended {planner.ending}"
    console.print(f"[bold]answer:[/bold] {escape(planner.answer or 'none')}  [dim]({told})[/dim]")


if __name__ == "__main__":
    typer.run(main)
