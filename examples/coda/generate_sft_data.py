"""Writes demonstrations for a cold start or for RED: search patterns for questions, direct reasoning for mathematics.

    python generate_sft_data.py --questions musique/train.jsonl --mathematics gsm8k/train.jsonl

Every search goes to the running retriever, and what stands between <documents> is what it found. Without a teacher's
endpoint there is no model: thoughts are templates, tasks are the data set's own sub-questions (MuSiQue has them), and
refinements are sentences of the passages. A run whose passages do not hold the answer is thrown away.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from generate_with_coda import CODA_CONFIGS  # type: ignore[import-not-found]
from rich.progress import Progress

from slime_search.cli.console import end_on_signals, fail, one_sentence
from slime_search.config import load_config
from slime_search.core.engine import Engine
from slime_search.core.tokens import Tokenizer
from slime_search.data.coda_demonstrations.generate import Demonstrator
from slime_search.data.coda_demonstrations.questions import Problem, read_problems
from slime_search.data.coda_demonstrations.templates import TemplateTeacher
from slime_search.data.prompts import write_parquet
from slime_search.engines.completions import CompletionsEngine
from slime_search.errors import ConfigError, ServiceError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.recipes.base import search_tool
from slime_search.recipes.coda import CodaConfig
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions


def main(
    tokenizer: Annotated[
        str, typer.Option(help="A Hugging Face folder: the policy's, or the teacher's if it has one.")
    ],
    questions: Annotated[
        list[Path] | None, typer.Option(help="FlashRAG's .jsonl or a .parquet; give it again.")
    ] = None,
    mathematics: Annotated[list[Path] | None, typer.Option(help="Worked problems, such as GSM8K's .jsonl.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions and problems of each kind at most.")] = 2000,
    output: Annotated[Path, typer.Option(help="The .parquet to write.")] = Path("data/coda/sft.parquet"),
    search_url: Annotated[str | None, typer.Option(help="The retriever's /retrieve.", show_default="config")] = None,
    teacher_url: Annotated[
        str | None, typer.Option(help="Base URL of a server with /v1/completions and the teacher's model.")
    ] = None,
    teacher_model: Annotated[str, typer.Option(help="The teacher's name there. TEACHER_API_KEY opens it.")] = "default",
    temperature: Annotated[float, typer.Option(min=0.0, help="The teacher's.")] = 0.7,
    in_flight: Annotated[int, typer.Option(min=1, help="Problems at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Of what is chosen, of the templates and of the rows' order.")] = 0,
) -> None:
    """Write runs of planner and executors that end with the right answer."""
    end_on_signals()
    with one_sentence("Interrupted."):
        problems = [*_some(questions or [], limit, seed), *_some(mathematics or [], limit, seed)]
        if not problems:
            raise ConfigError("nothing to demonstrate on; give --questions or --mathematics")
        overlay = {"local": {"search_url": search_url}} if search_url else {}
        config = load_config(CODA_CONFIGS, overlay, CodaConfig)
        made = load_tokenizer(tokenizer)
        teacher = _model(config, made, teacher_url, teacher_model) if teacher_url else _templates(made, seed)
        demonstrator = Demonstrator(
            teacher, search_tool(config), made, config, turn_tokens=512, concurrency=in_flight, temperature=temperature
        )
        rows: list[dict[str, Any]] = []
        stopped = _collected(demonstrator, problems, rows)
        name = teacher_model if teacher_url else "templates"
        for row in rows:
            row["metadata"]["teacher"] = name
        if not rows and stopped:
            fail(f"{stopped.why}; nothing was made until then", stopped.code)
        if not rows:
            raise ConfigError(f"no run is worth imitating: {dict(demonstrator.tally)}")
        random.Random(seed).shuffle(rows)
        write_parquet(output, rows)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in demonstrator.tally.most_common())
    typer.echo(f"{len(rows):,} rows in {output}, of {len(problems):,} problems: {counts}; teacher: {name}")
    if stopped:
        fail(f"{stopped.why}; what was made until then is written", stopped.code)


def _some(paths: list[Path], limit: int, seed: int) -> Iterator[Problem]:
    problems = list(chain.from_iterable(read_problems(path) for path in paths))
    random.Random(seed).shuffle(problems)
    return islice(iter(problems), limit)


def _templates(tokenizer: Tokenizer, seed: int) -> Callable[[Problem], Engine]:
    return lambda problem: TemplateTeacher(problem, tokenizer, random.Random(f"{seed}/{problem.text}"))


def _model(config: CodaConfig, tokenizer: Tokenizer, url: str, model: str) -> Callable[[Problem], Engine]:
    client = ServiceClient(
        "teacher", PooledSender(concurrency=256, timeout_s=config.engine_timeout_s), attempts=config.engine_attempts
    )
    engine = CompletionsEngine(client, url, tokenizer, model=model, token=os.environ.get("TEACHER_API_KEY"))
    return lambda problem: engine


class Stopped(NamedTuple):
    """What ended the work before all problems were done, and the exit code for it."""

    why: str
    code: int


def _collected(demonstrator: Demonstrator, problems: list[Problem], rows: list[dict[str, Any]]) -> Stopped | None:
    """Fills ``rows`` until all problems are done, or something stops it."""
    try:
        asyncio.run(_collect(demonstrator, problems, rows))
    except KeyboardInterrupt:
        return Stopped("interrupted", 130)
    except ServiceError as error:
        return Stopped(str(error), 1)
    return None


async def _collect(demonstrator: Demonstrator, problems: list[Problem], rows: list[dict[str, Any]]) -> None:
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task("demonstrating", total=len(problems))
            async for some in demonstrator.demonstrate(problems):
                rows += some
                progress.advance(task)
    finally:
        await close_sessions()


if __name__ == "__main__":
    typer.run(main)
