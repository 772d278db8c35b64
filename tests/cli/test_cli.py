"""The command line in an environment that has the plugin only."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from slime_search.cli.main import SUBCOMMANDS

ROOT = Path(__file__).parents[2]
WITHOUT_EXTRAS = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {"torch", "fastapi"} else find(name, *rest)
from slime_search.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "extra"), [("quickstart", "local"), ("serve-engine", "local"), ("serve-retriever", "bm25")]
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(command: str, extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert f"pip install 'slime-search[{extra}]'" in done.stderr


def test_help_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slime_search.cli", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert all(command in done.stdout for command in ("quickstart", "serve-retriever", "serve-engine"))


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups included."""
    for name, subcommand in SUBCOMMANDS.items():
        module = import_module(f"slime_search.cli.{subcommand.module}")
        command: Any = typer.main.get_command(module.app)
        yield f"slime-search {name}", command
        for nested, inner in getattr(command, "commands", {}).items():
            yield f"slime-search {name} {nested}", inner


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands()])
def test_help_teaches(name: str, command: Any) -> None:
    """There is a line to copy, every option is explained, and lines are those of a terminal of 80 columns."""
    told = inspect.cleandoc(command.help)
    assert re.search(rf"^.*{name}\b.*$", told, re.MULTILINE), told
    _, *rest = told.split("\n\n")
    assert [line for part in rest for line in part.splitlines() if len(line) > 78] == []
    unexplained = [param.name for param in command.params if not (getattr(param, "help", None) or param.hidden)]
    assert unexplained == []


@pytest.mark.parametrize("command", ["doctor", "serve-retriever", "launch", "curves"])
def test_a_command_of_its_own_shows_its_options(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slime_search.cli", command, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"slime-search {command}" in done.stdout


def test_what_follows_two_dashes_reaches_the_subcommand(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    command = [sys.executable, "-m", "slime_search.cli", "launch", "search-r1", "--dry-run", "--", "--lr", "1e-6"]
    environment = os.environ | {"TRAIN_SCRIPT": str(script), "RETRIEVAL_SERVER_URL": "http://elsewhere.invalid:8000"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.endswith(f"{script} --lr 1e-6\n"), done.stderr
