"""The corpus, the server and the checkouts of the client tests."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROWS = [
    {"id": "0", "contents": '"Hamlet"\nA tragedy about the prince of Denmark.'},
    {"id": "1", "contents": '"Emma"\nA novel by Jane Austen.\nIt has a second line.'},
    {"id": "2", "contents": '"Dune"\nA novel about the desert planet Arrakis.'},
    {"id": "3", "contents": '"Café Müller"\nA dance by Pina Bausch, „Tanztheater“ 中文.'},
]
CORPUS = "".join(json.dumps(row) + "\n" for row in ROWS)


def checkout(variable: str) -> Path:
    """The folder that an environment variable names; without it, the test is skipped."""
    if variable not in os.environ:
        pytest.skip(f"set {variable} to a checkout of the project")
    return Path(os.environ[variable]).resolve()


def load_file(path: Path) -> ModuleType:
    """Runs one source file as it is, without the package around it and what that needs."""
    specification = importlib.util.spec_from_file_location(f"client_{path.stem}", path)
    assert specification is not None and specification.loader is not None, path
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def serve(corpus: Path, port: int) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "serve-retriever",
        "--exit-with-parent",
        "--corpus_path",
        str(corpus),
    ]
    return subprocess.Popen([*command, "--port", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
