"""What every subcommand does alike: messages, missing packages, errors in one sentence, the end on a signal."""

import importlib.util
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from slime_search.errors import SlimeSearchError
from slime_search.validation import between, reason, shown

stderr = Console(stderr=True, highlight=False)


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints ``error: MESSAGE`` and ends the command with ``code``."""
    stderr.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)


def need(extra: str, *modules: str) -> None:
    """Ends the command where one of ``modules`` is not installed, and says which extra brings it."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"{', '.join(missing)} not installed. Run: pip install 'slime-search[{extra}]'")


def end_on_signals() -> None:
    """SIGTERM ends the command as Ctrl-C does, also while an event loop runs.

    A shell starts background jobs with SIGINT ignored, and Python leaves it so; here it is set again. SIGTERM becomes
    a SIGINT instead of raising by itself: inside a loop asyncio's own handler then cancels the main task, which takes
    leave of its services in order, where an exception would come up in whatever coroutine runs at that moment.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))


@contextmanager
def one_sentence(interrupted: str = "") -> Iterator[None]:
    """Ends the command with one sentence, and code 1, for an error that its user can mend; others keep their traceback.

    Args:
        interrupted: what is said after Ctrl-C, which ends the command with code 130.
    """
    try:
        yield
    except SlimeSearchError as error:
        fail(str(error))
    except OSError as error:
        fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except KeyboardInterrupt:
        if interrupted:
            stderr.print(escape(interrupted), soft_wrap=True)
        raise typer.Exit(130) from None


class WrongOption(typer.BadParameter):
    """An option's value that can't be taken; the message names both, and what is expected."""

    def format_message(self) -> str:
        return self.message


def wrong_option(error: typer.BadParameter) -> typer.BadParameter:
    """The same error in our words, where it is one of typer's own checks."""
    if not isinstance(error.__cause__, ValidationError) or error.param is None:
        return error
    fault = error.__cause__.errors(include_url=False)[0]
    info = getattr(getattr(error.param, "type_descriptor", None), "parameter_info", None)
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    why = reason(fault) if low is high is None else between(low, high)
    _, is_choice, choices = why.partition(" is not one of ")
    if is_choice:
        why = f"expected is one of {choices.rstrip('.')}"
    name = next(iter(error.param.opts), "") if error.param.opts else error.param.name
    return WrongOption(f"{name} = {fault['input']}: {why}", ctx=error.ctx, param=error.param)


def refuse_variables(error: ValidationError) -> NoReturn:
    """Ends the command with code 2, and a line for each environment variable that can't be read."""
    for part in error.errors():
        name = str(part["loc"][0]).upper()
        stderr.print(f"[red]{name}[/] = {escape(shown(part['input']))}: {escape(reason(part))}", soft_wrap=True)
    raise typer.Exit(2)
