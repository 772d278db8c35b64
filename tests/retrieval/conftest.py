import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.retrieval.bm25_reference import WORDS
from tests.retrieval.retrieval_process import Server


@pytest.fixture(scope="session")
def keep_server() -> Iterator[Callable[[Server], Server]]:
    """Ends the servers that it is given with the test session at the latest."""
    with contextlib.ExitStack() as stack:

        def keep(server: Server) -> Server:
            stack.callback(server.process.wait)
            stack.callback(server.process.kill)
            return server

        yield keep


@pytest.fixture(scope="session")
def start_server(keep_server: Callable[[Server], Server]) -> Callable[..., Server]:
    """Starts servers, with the corpus and further options."""
    return lambda corpus_path, *options, env=None: keep_server(Server.of_corpus(corpus_path, *options, env=env))


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """60 rows with odd columns, of which several are equally good for many queries."""
    rows: list[dict[str, Any]] = []
    for number in range(60):
        text = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 3 + number % 5))
        if number % 3:
            rows.append({"id": f"0{number}", "contents": f'"{WORDS[number % 7]}"\n{text}'})
        else:
            rows.append(
                {"z": [number, None], "title": WORDS[number % 7], "text": text, "id": 10**25 + number, "a": 1.5}
            )
    return rows


@pytest.fixture(scope="session")
def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row.get("contents") or f"{row['title']}\n{row['text']}" for row in rows]


@pytest.fixture(scope="session")
def corpus_path(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrieval") / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def server(corpus_path: Path, start_server: Callable[..., Server]) -> Server:
    server = start_server(corpus_path, "--port", "0", "--topk", "2")
    server.wait_until_ready()
    return server
