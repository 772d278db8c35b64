"""``infer.py``: a question to an engine over real HTTP, and what the terminal shows."""

import os
import subprocess
import sys
from pathlib import Path

from transformers import AutoTokenizer

from tests.recipes.coda.test_coda import executor_turn, is_executor, think
from tests.support.policies import by_turn
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

SCRIPT = Path(__file__).parents[3] / "examples/coda/infer.py"


def planner(context: str) -> str:
    """The prompt names the tags, too."""
    if "\n\n<result>" in context:
        return f"{think('Now I know.')}<answer> name-7 </answer>"
    return f"{think('I delegate.')}<task> Find who made thing-7. </task>"


def test_planner_and_executor_are_shown_turn_by_turn(qwen_folder: Path) -> None:
    policy = by_turn(lambda context: executor_turn(context) if is_executor(context) else planner(context))
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    with ScriptedEngine(tokenizer, policy) as engine, ScriptedRetriever(passage) as retriever:
        argv = [sys.executable, str(SCRIPT), "--checkpoint", str(qwen_folder), "--engine-url", engine.url]
        argv += ["--search-url", retriever.search_url, "Who made thing-7?"]
        environment = os.environ | {"COLUMNS": "120"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    shown = done.stdout
    parts = ["planner", "<task> Find who made thing-7. </task>", "executor 1", "<search> thing-7 maker </search>"]
    parts += ["About thing-7: It was made by name-7", "executor 1", "<refine> name-7 made it. </refine>", "planner"]
    parts += ["<answer> name-7 </answer>", "answer: name-7", "(1 tasks, 1 searches, ended answered)"]
    place = 0
    for part in parts:
        place = shown.find(part, place)
        assert place >= 0, f"{part!r} is not shown where it should be:\n{shown}"
        place += len(part)
