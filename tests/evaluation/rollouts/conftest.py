from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from slime_search.cli.rollout import app
from tests.support.policies import by_turn, question_number, spoken_turns, think_answer, think_search
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.tiny_quickstart import leave_quickstart

Rollout = Callable[..., Result]


def diligent(context: str) -> str:
    number = question_number(context)
    return think_answer(f"name-{number}") if spoken_turns(context) else think_search(f"thing-{number} maker")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch) -> Any:
    with ScriptedRetriever(passage) as running:
        monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", running.search_url)
        yield running


@pytest.fixture
def engine(qwen: Any) -> Any:
    with ScriptedEngine(qwen, by_turn(diligent)) as running:
        yield running


@pytest.fixture
def run(qwen_folder: Path, handlers: None) -> Rollout:
    """The command in a terminal of 100 columns, with the tokenizer named."""

    def invoke(*arguments: object, **options: Any) -> Result:
        argv = ["--checkpoint", str(qwen_folder), *map(str, arguments)]
        return CliRunner().invoke(app, argv, env={"COLUMNS": "100"}, **options)

    return invoke


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Five questions, the last of which has a gold answer that nobody gives."""
    rows = [{"question": f"who made thing-{n}", "golden_answers": [f"name-{n}" if n < 4 else "else"]} for n in range(5)]
    path = tmp_path / "things.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


@pytest.fixture(scope="session")
def tiny_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leave_quickstart(tmp_path_factory.mktemp("quickstart"))
