"""``slime-search rollout``."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

from slime_search.cli.console import end_on_signals, one_sentence, stderr
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
from slime_search.data.questions import Question
from slime_search.errors import ConfigError, DataError, TooManyFailures
from slime_search.evaluation.questions import read_prompt_template, read_question_set
from slime_search.evaluation.session import Session, Show
from slime_search.evaluation.target import Opened
from slime_search.hooks.driving import sampling_params

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
_console = Console(highlight=False)

_FAST_FAILURE = {"engine_attempts": 2, "search_attempts": 2}
"""Whoever watches wants to read what is wrong, not to wait until it passes."""


@app.command()
def rollout(
    questions: Annotated[
        Path | None,
        typer.Option(
            help="A file of questions with answers: .parquet or .jsonl, of prepare-data or FlashRAG.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first so many questions of the file.", show_default="all")
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option(help="A question; may be repeated.", show_default="asked for, one by one")
    ] = None,
    gold: Annotated[
        list[str] | None,
        typer.Option(
            help="The right answer to an --ask, for a reward: one for each, or several for a single one.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Rollouts of each question.")] = 1,
    prompt_template: Annotated[
        Path | None,
        typer.Option(
            help="A text file with {question} in it, the user's message in place of the recipe's prompt; or a .json "
            "file with a list of messages.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        Show | None,
        typer.Option(
            help="lines: one for each rollout. turns: each turn and search as soon as it is there. tokens: every "
            "token, with who wrote it and its log-probability.",
            show_default="lines with --questions, else turns",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Append each rollout to this .jsonl file, for slime-search view.", show_default=False),
    ] = None,
    recipe: RecipeName = None,
    engine_url: EngineUrl = None,
    protocol: ProtocolOption = ProtocolName.GENERATE,
    model: ModelName = "default",
    checkpoint: Checkpoint = None,
    quickstart: QuickstartFolder = None,
    before: Before = False,
    temperature: Temperature = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The sampling seed of a question's first rollout; each further one gets one more. For SGLang with "
            "--enable-deterministic-inference, and the embedded engine.",
            show_default="the engine's",
            rich_help_panel="Sampling",
        ),
    ] = None,
    turn_tokens: TurnTokens = None,
    concurrency: Concurrency = 16,
) -> None:
    """Ask a live engine questions with a recipe, outside training, and watch every turn and search.

    Watch a question turn by turn, on a server whose model SGLang names:

    slime-search rollout --engine-url http://127.0.0.1:30000 \\
      --ask "Who wrote Emma?"

    Try another prompt on fifty questions, and keep the rollouts:

    slime-search rollout --engine-url http://127.0.0.1:30000 \\
      --prompt-template new.txt --questions data/test/nq.parquet --limit 50 \\
      --output new.jsonl

    The recipe's settings come from the environment, as in training:
    SLIME_SEARCH_LOCAL__SEARCH_URL is the retriever, SLIME_SEARCH_MAX_TURNS the
    number of searches. Ends with a table of scores, tokens, times and failures.
    """
    _print_retries()
    end_on_signals()
    with one_sentence("Interrupted."):
        asked = _questions(questions, limit, ask or [], gold or [])
        prompt = read_prompt_template(prompt_template) if prompt_template else None
        with ExitStack() as stack:
            file = stack.enter_context(_appending(output)) if output else None
            with stderr.status("opening"):
                opened = stack.enter_context(
                    opened_by_options(
                        recipe=recipe,
                        engine_url=engine_url,
                        protocol=protocol,
                        model=model,
                        checkpoint=checkpoint,
                        quickstart=quickstart,
                        before=before,
                        concurrency=concurrency,
                        config=_FAST_FAILURE,
                    )
                )
                session = Session(
                    replace(opened.target, prompt=prompt or opened.target.prompt),
                    _console,
                    params=sampling_params(temperature=temperature, max_new_tokens=turn_tokens or opened.turn_tokens),
                    samples=samples,
                    seed=seed,
                    show=show or (Show.LINES if questions else Show.TURNS),
                    output=file,
                )
            stack.callback(session.close)
            stack.callback(_print_tally, session, output)
            if asked:
                _ask_all(session, asked, samples, concurrency)
            else:
                _converse(session, opened)
        if session.tally.all_failed:
            raise TooManyFailures("every rollout was failed by a service; the table above says which")


def _questions(file: Path | None, limit: int | None, ask: Sequence[str], gold: Sequence[str]) -> list[Question]:
    """Those of the file, or those typed in; none where they are to be asked for."""
    if file is not None:
        if ask or gold:
            raise ConfigError(f"--questions {file}: brings questions and answers; leave out --ask and --gold")
        return read_question_set(file)[:limit]
    if limit is not None:
        raise ConfigError(f"--limit {limit}: is of a file; name it with --questions")
    if len(ask) == 1:
        answers = [tuple(gold)]
    elif gold and len(gold) != len(ask):
        raise ConfigError(f"--gold: {len(gold)} answers for {len(ask)} questions; give one an --ask, in its order")
    else:
        answers = [(answer,) for answer in gold] or [()] * len(ask)
    return [_typed(text, number, its) for number, (text, its) in enumerate(zip(ask, answers, strict=True))]


def _typed(text: str, number: int, answers: tuple[str, ...] = ()) -> Question:
    if not text.strip():
        raise DataError("--ask: the question is empty")
    return Question("asked", f"asked/{number}/{text.strip()}", text.strip(), answers)


def _ask_all(session: Session, questions: Sequence[Question], samples: int, concurrency: int) -> None:
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=_console, transient=True) as progress:
        task = progress.add_task("rolling out", total=len(questions) * samples)
        session.ask(questions, concurrency=concurrency, on_done=lambda: progress.advance(task))


def _converse(session: Session, opened: Opened) -> None:
    """Asks until an empty line, or the end of the input."""
    if opened.test_set is not None:
        _console.print(
            f"[dim]Questions that it never saw: --questions {escape(str(opened.test_set))}[/]", soft_wrap=True
        )
    number = 0
    while text := _read_question():
        session.ask([_typed(text, number)])
        number += 1
    if not number:
        raise ConfigError("no question: type one, or name some with --ask or --questions")


def _read_question() -> str:
    try:
        return _console.input("[bold]question:[/bold] ").strip()
    except EOFError:
        return ""


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise DataError(f"--output {path}: {error.strerror}; name a .jsonl file that can be written") from None
    with file:
        yield file


def _print_tally(session: Session, output: Path | None) -> None:
    """Prints what was done, however the session ends."""
    if len(session.tally):
        _console.print(session.tally.table())
        if output is not None:
            _console.print(f"Saved in {output}. Look at them: slime-search view {output}", markup=False, soft_wrap=True)


def _print_retries() -> None:
    """Prints each request that is tried again; what failed for good, the rollout says itself."""
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=stderr, show_path=False)])
    logging.getLogger("slime_search.transport.client").setLevel(logging.INFO)
    logging.getLogger("slime_search.core.failures").setLevel(logging.ERROR)
