"""The quickstart as a user runs it, shortened: every file it promises, and a clean end when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from slime_search.records.rollout import read_rollout
from tests.support.processes import command_lines, wait_until

RUNS = ["search-r1 tags", "search-r1 tools", "thinker-searcher tags", "coda tags", "distill tools"]
COMMAND = [sys.executable, "-m", "slime_search.cli", "quickstart"]


@pytest.fixture(scope="module", params=RUNS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("quickstart") / "run"
    options = ["--output", str(output), "--seed", "3", "--cold-start-steps", "2", "--steps", "2"]
    recipe, dialect = request.param.split()
    options += ["--recipe", recipe, "--dialect", dialect]
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held-out exact match" in done.stdout
    assert "Unclosed" not in done.stderr
    return output


def test_it_leaves_what_it_promises(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["seed"] == 3
    assert summary["steps"] == 2
    assert (summary["recipe"], summary["dialect"]) != ("coda", "tools")
    assert summary["interrupted"] is False
    assert summary["start"] == "taught here"
    assert {"em_before", "em_after", "wall_s", "model_parameters"} <= summary.keys()
    assert 0.0 <= summary["em_before"] <= 1.0
    assert (finished / "curve.png").read_bytes().startswith(b"\x89PNG")
    page = (finished / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_it_begins_with_the_policy_that_comes_with_the_package(tmp_path: Path) -> None:
    options = ["--output", str(tmp_path), "--seed", "1", "--steps", "1"]
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["start"] == "shipped"
    assert "cold_start_s" not in summary
    assert 0.1 < summary["em_before"] < 0.5, "it knows the format, and searches badly"


def test_the_report_tells_where_student_and_teacher_differ(finished: Path) -> None:
    taught = json.loads((finished / "summary.json").read_text())["recipe"] == "distill"
    assert ("where it differs most from its teacher" in (finished / "report.html").read_text()) == taught


def test_metrics_tell_each_step(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "train"] == [1, 2]
    evaluations = [row for row in rows if row["phase"] == "eval"]
    assert [row["step"] for row in evaluations] == [0, 2]
    assert all(row["n"] == 200 and row["failed"] == 0 for row in evaluations)
    shift = [row["policy_shift"] for row in rows if row["phase"] == "train" and row["trained_tokens"]]
    assert all(value < 1e-3 for value in shift), "the engine's log-probabilities are not the trainer's"


def test_trajectories_come_from_both_ends_with_every_token(finished: Path) -> None:
    lines = (finished / "trajectories.jsonl").read_bytes().splitlines()
    rollouts = [read_rollout(json.loads(line)) for line in lines]
    assert {rollout.stage for rollout in rollouts} == {"before", "after"}
    for segment in (s for rollout in rollouts for run in rollout.runs for s in run.segments):
        assert (segment.log_probs is not None) == (segment.owner == "model")


def test_executors_are_shown_beside_their_planner(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    page = (finished / "report.html").read_text()
    assert (">planner</bdi>" in page) == (summary["recipe"] == "coda")


def test_the_trained_model_is_a_hugging_face_folder(finished: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert model.config.vocab_size == len(tokenizer)
    messages = [{"role": "user", "content": "Who?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == "Question: Who?\n"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for left processes in /proc")
@pytest.mark.parametrize(("phase", "number"), [("cold_start", signal.SIGINT), ("train", signal.SIGTERM)])
def test_an_interrupted_run_is_usable_and_leaves_no_process(tmp_path: Path, phase: str, number: signal.Signals) -> None:
    output = tmp_path / "run"
    steps = ["--cold-start-steps", "2" if phase == "train" else "500", "--steps", "500"]
    process = subprocess.Popen(
        [*COMMAND, "--output", str(output), *steps], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics = output / "metrics.jsonl"
    try:
        written = f'"phase": "{phase}"'
        wait_until(lambda: process.poll() is not None or (metrics.exists() and written in metrics.read_text()), 600)
        assert process.poll() is None, process.communicate()[0]
        assert command_lines(output / "data"), "the retriever should be running"
        os.kill(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "Interrupted" in printed and "Traceback" not in printed
    assert command_lines(output) == {}
    summary = json.loads((output / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert all(json.loads(line) for line in metrics.read_text().splitlines())
    if phase == "train":
        assert summary["steps"] >= 1
        assert (output / "curve.png").exists()
        AutoModelForCausalLM.from_pretrained(output / "model")
