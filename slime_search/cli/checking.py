"""Options that several commands take, looked at before anything is started or fetched."""

import logging
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from slime_search.cli.console import WrongOption, stderr
from slime_search.errors import ConfigError
from slime_search.validation import check_http_url

_EXAMPLE = "http://127.0.0.1:8000"


def url(context: typer.Context, param: Any, value: str | None) -> str | None:
    """The ``callback`` of every option that takes a server's URL."""
    if value is not None:
        try:
            check_http_url(value)
        except ValueError:
            name = param.opts[0]
            raise WrongOption(f"{name} = {value}: expected is a URL, such as {_EXAMPLE}", ctx=context) from None
    return value


def look_for_model(option: str, name: str) -> None:
    """Says at once what is wrong with a model's name, or that it has to be fetched, which may take minutes.

    Args:
        option: where it was named, such as ``--checkpoint``.
        name: a folder, or a model of the Hugging Face Hub.

    Raises:
        ConfigError: it is a file, or a path to a folder that does not exist.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return
    if path.is_file():
        raise ConfigError(f"{option} {name}: is a file", "name the folder of the model")
    if not _may_be_on_the_hub(name):
        raise ConfigError(f"{option} {name}: there is no such folder", "name one, or a model of the Hub as owner/name")
    # It tells every retry with the library's own words.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not _is_cached(name):
        stderr.print(
            f"{option} {escape(name)}: there is no such folder; asking the Hugging Face Hub for it", soft_wrap=True
        )


def _may_be_on_the_hub(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith(("/", ".", "~")) and bool(name.strip("/"))


def _is_cached(name: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except (ImportError, ValueError):
        return False
