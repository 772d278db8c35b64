"""What is printed is there before the next request is made, and agents have colours of their own."""

import io
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_search.data.questions import Question
from slime_search.engines.endpoint import Endpoint
from slime_search.evaluation.session import Session
from slime_search.evaluation.target import open_target
from slime_search.hooks.driving import sampling_params
from tests.recipes.coda.test_coda import planner_turn, team, think
from tests.support.scripted_engine import Exchange, ScriptedEngine

QUESTION = Question("", "asked", "Who made thing-7?", ("name-7",))


def converse(
    engine: ScriptedEngine, checkpoint: Path, recipe: str, config: dict[str, Any] | None = None, **console: Any
) -> tuple[str, list[str]]:
    """What was printed in the end, and until each request to the engine."""
    file = io.StringIO()
    endpoint = Endpoint(engine.url)
    target = open_target(recipe, endpoint, tokenizer=str(checkpoint), config=config or {}, concurrency=4)
    params = sampling_params(temperature=1.0, max_new_tokens=200)
    session = Session(target, Console(file=file, width=100, **console), params=params)
    snapshots: list[str] = []

    async def look(exchange: Exchange) -> None:
        snapshots.append(file.getvalue())

    engine.gate = look
    try:
        session.ask([QUESTION])
    finally:
        session.close()
    return file.getvalue(), snapshots


def test_a_turn_and_its_search_are_printed_before_the_next_turn(
    engine: ScriptedEngine, retriever: Any, qwen_folder: Path
) -> None:
    _, (first, second) = converse(engine, qwen_folder, "search-r1")
    assert "Who made thing-7?" in first
    assert "<search>" not in first
    assert "<search> thing-7 maker </search>" in second
    assert "About thing-7: It was made by name-7" in second


def test_what_a_baseline_found_is_printed_before_it_answers(
    engine: ScriptedEngine, retriever: Any, qwen_folder: Path
) -> None:
    _, (before, *_) = converse(engine, qwen_folder, "rag")
    assert "search: Who made thing-7?" in before
    assert "1  About thing-7?: It was made by name-7" in before


def test_each_executor_has_a_colour_and_a_number(qwen: Any, retriever: Any, qwen_folder: Path) -> None:
    tasks = f"{think('Two.')}<task> Find who made thing-1.\nFind who made thing-2. </task>"
    policy = team(lambda context: planner_turn(context) if "\n\n<result>" in context else tasks)
    with ScriptedEngine(qwen, policy) as engine:
        colours = {"force_terminal": True, "color_system": "standard"}
        shown, _ = converse(engine, qwen_folder, "coda", {"tasks_per_turn": 2}, **colours)
    titles = re.findall(r"\x1b\[(\d+)m╭─\x1b\[0m\x1b\[\d+m ((?:planner|executor)(?: \d)?) ", shown)
    assert {name: colour for colour, name in titles} == {"planner": "36", "executor 1": "32", "executor 2": "35"}
    assert len(titles) == 6


def test_control_characters_of_the_model_do_not_reach_the_terminal(
    qwen: Any, retriever: Any, qwen_folder: Path
) -> None:
    with ScriptedEngine(qwen, lambda context: "\x1b[2J<answer> a\x07b </answer>") as engine:
        shown, _ = converse(engine, qwen_folder, "search-r1")
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "�[2J<answer>" in shown
