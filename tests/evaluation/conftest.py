"""Scripted servers, question files and a tiny quickstart for the commands."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.policies import by_turn, question_number, spoken_turns, think_answer, think_search
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.tiny_quickstart import leave_quickstart


def _turn(context: str) -> str:
    """Knows the even ones by a search, and is wrong of the odd ones."""
    number = question_number(context)
    if spoken_turns(context):
        return think_answer(f"name-{number}" if number % 2 == 0 else "nobody")
    return think_search(f"thing-{number}")


@pytest.fixture
def engine(qwen: Any) -> Iterator[ScriptedEngine]:
    with ScriptedEngine(qwen, by_turn(_turn)) as running:
        yield running


@pytest.fixture
def retriever() -> Iterator[ScriptedRetriever]:
    with ScriptedRetriever(passage) as running:
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Ten, in a file of FlashRAG's."""
    path = tmp_path / "nq" / "test.jsonl"
    path.parent.mkdir()
    rows = ({"question": f"who made thing-{n}", "golden_answers": [f"name-{n}"]} for n in range(10))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def handlers() -> Iterator[None]:
    """The command sets handlers of its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leave_quickstart(tmp_path_factory.mktemp("quickstart"))
