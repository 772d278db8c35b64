"""``infer.py``: a question to an engine over real HTTP, and what the terminal shows."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.recipes.coda.test_coda import executor_turn, is_executor, think
from tests.support.loopback import Fault, hang
from tests.support.policies import by_turn
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import Lookup, ScriptedRetriever

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
    end = 0
    for part in parts:
        start = shown.find(part, end)
        assert start >= 0, f"{part!r} is not shown where it should be:\n{shown}"
        end = start + len(part)


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    argv = [sys.executable, str(SCRIPT), "--checkpoint", str(folder), *arguments]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_search_ends_it_in_one_sentence(number: signal.Signals, qwen_folder: Path) -> None:
    policy = by_turn(lambda context: executor_turn(context) if is_executor(context) else planner(context))
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    with ScriptedEngine(tokenizer, policy) as engine, ScriptedRetriever(passage) as retriever:
        servers = ["--engine-url", engine.url, "--search-url", retriever.search_url]
        with started(qwen_folder, *servers, "Who made thing-7?") as process:

            def stop(lookup: Lookup) -> Fault:
                process.send_signal(number)
                return hang

            retriever.script = stop
            shown, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, "Interrupted.\n")
    assert "<task> Find who made thing-7. </task>" in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_question_is_asked_for_ends_it_in_one_sentence(
    number: signal.Signals, qwen_folder: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    engine = ScriptedEngine(tokenizer, by_turn(planner))
    with engine, started(qwen_folder, "--engine-url", engine.url) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith("question: "):
            read = process.stdout.read(1)
            assert read, shown
            shown += read
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, "Interrupted.\n")


def test_the_end_of_the_input_ends_the_conversation(qwen_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    engine = ScriptedEngine(tokenizer, by_turn(planner))
    with engine, started(qwen_folder, "--engine-url", engine.url) as process:
        _, said = process.communicate("", timeout=300)
    assert (process.returncode, said) == (0, "")
