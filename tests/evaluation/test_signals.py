"""SIGTERM, as Slurm, ``timeout`` and a container that stops send it, inside whatever coroutine runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slime_search.config import ENV_PREFIX
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

MODULE = """
import os
import signal

from slime_search.recipes.search_r1 import SearchR1

recipe = SearchR1({})
finished = 0


async def generate(args, sample, sampling_params):
    global finished
    if finished >= 4:
        os.kill(os.getpid(), signal.SIGTERM)
    sample = await recipe.generate(args, sample, sampling_params)
    finished += 1
    return sample


reward_func = recipe.reward_func
"""
"""A recipe that gets the signal in the middle of one of its coroutines, while others wait for their servers."""


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Forty questions, each with its prompt."""
    rows = [
        {"prompt": f"Question: who made thing-{n}?", "question": f"who made thing-{n}?", "answer": f"name-{n}"}
        for n in range(40)
    ]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("command", ["evaluate", "rollout"])
def test_sigterm_ends_in_one_sentence_and_keeps_what_was_done(
    command: str, asked: Path, tmp_path: Path, engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    (tmp_path / "stopped_recipe.py").write_text(MODULE)
    output = tmp_path / "kept"
    kept = output / "rollouts.jsonl"
    more = ["--test-set", str(asked), "--output", str(output)]
    if command == "rollout":
        more = ["--questions", str(asked), "--output", str(kept)]
    told = ["--engine-url", engine.url, "--checkpoint", str(qwen_folder), "--recipe", "stopped_recipe"]
    done = subprocess.run(
        [sys.executable, "-m", "slime_search.cli", command, *told, "--concurrency", "3", *more],
        env={
            **os.environ,
            f"{ENV_PREFIX}LOCAL__SEARCH_URL": retriever.search_url,
            "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 130, done.stdout + done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("Interrupted.")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert 4 <= len(rows) < 40
    assert all(row["ending"] == "answered" for row in rows)
