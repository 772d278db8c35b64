"""An evaluation on the embedded engine that is killed, or told to stop, and goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slime_search.evaluation.store import Store, weights_digest
from slime_search.local.artifacts import Artifacts
from slime_search.local.stack import EngineProcess, RetrieverProcess
from tests.support.processes import wait_until


@pytest.fixture
def command(tiny_quickstart: Path, tmp_path: Path) -> Iterator[list[str]]:
    """An evaluation of the tiny policy, whose servers are already there."""
    artifacts = Artifacts(tiny_quickstart)
    engine = EngineProcess(artifacts.model, tmp_path / "engine.log", seed=0)
    retriever = RetrieverProcess(artifacts.data / "corpus.jsonl", tmp_path / "retriever.log")
    with engine, retriever:
        engine.wait_ready()
        retriever.wait_ready()
        told = ["evaluate", "--engine-url", engine.url, "--search-url", retriever.url, "--turn-tokens", "64"]
        told += ["--test-set", f"held-out={artifacts.data / 'test.parquet'}"]
        yield [sys.executable, "-m", "slime_search.cli", *told]


def run(command: list[str], output: Path) -> None:
    told = [*command, "--output", str(output)]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def written(store: Store) -> int:
    return store.rollouts.read_bytes().count(b"\n") if store.rollouts.exists() else 0


def stop(command: list[str], output: Path, number: signal.Signals, *, after: int) -> tuple[int, str]:
    """Runs until the file has ``after`` rollouts, sends the signal; returns the exit code and what was printed."""
    store = Store(output)
    told = [*command, "--output", str(output), "--concurrency", "1"]
    process = subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: process.poll() is not None or written(store) >= after, 300)
        assert process.poll() is None, process.communicate()[0]
        os.kill(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert written(store) < 24, "it was to be stopped half-way"
    assert not store.summary.exists()
    return process.returncode, printed


def told(output: Path) -> dict[str, Any]:
    """Each rollout by its id, without what clocks and the company in a batch leave in it: seconds, last digits."""
    rollouts = {}
    for line in (output / "rollouts.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["wall_s"]
        for one in row["runs"]:
            for call in one.get("calls", ()):
                del call["latency_s"], call["details"]
            for segment in one["segments"]:
                segment.pop("log_probs", None)
        assert row["id"] not in rollouts
        rollouts[row["id"]] = row
    return rollouts


def numbers(output: Path) -> dict[str, Any]:
    summary = json.loads((output / "summary.json").read_text())
    for one in (*summary["data_sets"].values(), summary["average"]):
        del one["latency_p50_s"], one["latency_p95_s"]
    return summary


@pytest.mark.timeout(900)
def test_a_killed_and_an_interrupted_evaluation_go_on_to_the_same_end(command: list[str], tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(command, whole)
    stop(command, stopped, signal.SIGKILL, after=5)
    kept = (stopped / "rollouts.jsonl").read_bytes()
    with (stopped / "rollouts.jsonl").open("ab") as file:
        file.write(b'{"id": "held-out/23/0", "gro')
    code, printed = stop(command, stopped, signal.SIGINT, after=kept.count(b"\n") + 5)
    assert code == 130, printed
    assert "Interrupted. What was done is in" in printed
    assert "Traceback" not in printed
    run(command, stopped)
    assert (stopped / "rollouts.jsonl").read_bytes().startswith(kept)
    assert len(told(stopped)) == 24
    assert told(stopped) == told(whole)
    assert numbers(stopped) == numbers(whole)


def test_other_weights_are_other_settings(tiny_quickstart: Path) -> None:
    digests = [weights_digest(tiny_quickstart / name) for name in ("model", "cold_start", "model")]
    assert digests[0] == digests[2] != digests[1]
