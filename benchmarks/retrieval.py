"""How fast the retrieval server is with an encoder: ``python -m benchmarks.retrieval``.

The server, one in the style that people train with today (``plain_retriever.py``) and that one tuned load the same
encoder, the same flat index and the same corpus, and are asked in turn. What is measured and why: benchmarks/README.md.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from joblib import cpu_count
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.closed_loop import Load, ask, top_ids
from benchmarks.machine import describe
from benchmarks.retrieval_fixture import Fixture, build_fixture
from slime_search.retrieval.collection import RetrieverName, RetrieverSettings
from slime_search.retrieval.computing import plan
from slime_search.retrieval.encoders.loading import load_encoder
from slime_search.retrieval.retriever import DenseRetriever
from slime_search.retrieval.vectors.opening import open_index
from slime_search.transport import readiness

CLIENTS = 64
PLAIN_QUESTIONS, OUR_QUESTIONS, LONE_QUESTIONS = 320, 2_560, 40
REPEATS, PROMPTS = 8, 32
OFFLINE_BATCHES = (64, 256)
OFFLINE_QUESTIONS = 2_048
COMPARED_QUESTIONS = 400
READY_S = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured number, what it must reach, and what it was measured against."""

    what: str
    value: float
    target: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        outcome = "[green]met[/green]" if self.met else "[red]MISSED[/red]"
        return f"{self.what}: {self.value:.3g}; target {sign} {self.target:g}: {outcome}"


@dataclass(slots=True)
class Side:
    """What the rounds of one server saw."""

    lone_ms: list[float] = field(default_factory=list)
    queries_per_s: list[float] = field(default_factory=list)
    p50_s: list[float] = field(default_factory=list)
    p99_s: list[float] = field(default_factory=list)
    ready_s: float = 0.0
    """From its start until it is ready."""
    memory_mb: float = 0.0
    """RSS of its processes then."""

    def add(self, lone: Load, crowd: Load) -> None:
        self.lone_ms.append(lone.quantile_s(0.5) * 1e3)
        self.queries_per_s.append(crowd.queries_per_s)
        self.p50_s.append(crowd.quantile_s(0.5))
        self.p99_s.append(crowd.quantile_s(0.99))


@dataclass(slots=True)
class Measured:
    plain: Side = field(default_factory=Side)
    tuned: Side = field(default_factory=Side)
    ours: Side = field(default_factory=Side)
    repeated_per_s: list[float] = field(default_factory=list)
    offline_per_s: list[float] = field(default_factory=list)
    offline_small_per_s: list[float] = field(default_factory=list)
    agreement: float = 0.0


def main(
    folder: Annotated[
        Path | None, typer.Option(help="Keeps encoder and index for the next run; else temporary.")
    ] = None,
    passages: Annotated[
        int, typer.Option(min=1_000, help="Passages in the corpus and vectors in the index.")
    ] = 200_000,
    shape: Annotated[str, typer.Option(help="The encoder: base (e5-base) or small (MiniLM).")] = "base",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each server, in turn.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every number to this file.")] = None,
) -> None:
    """Compares both servers; exits with 1 when a target is missed."""
    console = Console(highlight=False)
    console.print(machine := describe("torch"))
    console.print(f"command: python -m benchmarks.retrieval --passages {passages} --shape {shape} --rounds {rounds}")
    with tempfile.TemporaryDirectory() as temporary, Progress(console=console, auto_refresh=False) as progress:
        at = folder or Path(temporary)
        at.mkdir(parents=True, exist_ok=True)
        fixture = build_fixture(at, shape=shape, passages=passages, progress=progress)
        measured = _measure(fixture, rounds, progress)
    verdicts = _report(console, measured)
    if json_file is not None:
        record = {
            "machine": machine,
            **asdict(measured),
            "verdicts": [asdict(one) | {"met": one.met} for one in verdicts],
        }
        json_file.write_text(json.dumps(record, indent=2) + "\n")
    raise typer.Exit(0 if all(verdict.met for verdict in verdicts) else 1)


def _measure(fixture: Fixture, rounds: int, progress: Progress) -> Measured:
    measured = Measured()
    task = progress.add_task("starting the servers", total=rounds)
    progress.refresh()
    offline = _load_offline(fixture)
    with (
        _plain_server(fixture, measured.plain) as plain,
        _plain_server(fixture, measured.tuned, "--tuned", port=18_103) as tuned,
        _our_server(fixture, measured.ours) as ours,
    ):
        compared = fixture.questions(COMPARED_QUESTIONS, seed=0)
        measured.agreement = _agreement(asyncio.run(top_ids(plain, compared)), asyncio.run(top_ids(ours, compared)))
        for number in range(rounds):
            for name, url, side, count in (
                ("the plain server", plain, measured.plain, PLAIN_QUESTIONS),
                ("the tuned one", tuned, measured.tuned, OUR_QUESTIONS // 2),
                ("slime-search", ours, measured.ours, OUR_QUESTIONS),
            ):
                progress.update(task, description=f"asking {name}", completed=number)
                progress.refresh()
                lone = asyncio.run(ask(url, fixture.questions(LONE_QUESTIONS, seed=100 + number), clients=1))
                crowd = asyncio.run(ask(url, fixture.questions(count, seed=200 + number), clients=CLIENTS))
                side.add(lone, crowd)
            repeated = _as_groups_ask(fixture.questions(OUR_QUESTIONS // 2, seed=300 + number))
            measured.repeated_per_s.append(asyncio.run(ask(ours, repeated, clients=CLIENTS)).queries_per_s)
            questions = fixture.questions(OFFLINE_QUESTIONS, seed=400 + number)
            measured.offline_per_s.append(max(_offline_per_s(offline, questions, size) for size in OFFLINE_BATCHES))
            small = _offline_per_s(offline, questions, CLIENTS // cpu_count())
            measured.offline_small_per_s.append(small)
    progress.update(task, visible=False)
    return measured


def _as_groups_ask(questions: list[str]) -> list[str]:
    """Every question as often as a GRPO group has samples, mixed with those of the rollout's other prompts."""
    draw = random.Random(0)
    rollouts = [questions[start : start + PROMPTS] * REPEATS for start in range(0, len(questions), PROMPTS)]
    return [question for rollout in rollouts for question in draw.sample(rollout, k=len(rollout))]


def _agreement(expected: list[list[str]], found: list[list[str]]) -> float:
    """The share of the expected ids that were found."""
    shares = [len(set(one) & set(other)) / len(one) for one, other in zip(expected, found, strict=True)]
    return statistics.fmean(shares)


def _load_offline(fixture: Fixture) -> DenseRetriever:
    """What our server computes with, set up as it does."""
    plan(RetrieverSettings(corpus_path=fixture.corpus, name=RetrieverName.E5), threads=1, workers=None)
    torch.set_num_threads(1)
    return DenseRetriever(load_encoder(str(fixture.encoder), family="e5"), open_index(fixture.index))


def _offline_per_s(retriever: DenseRetriever, questions: list[str], batch: int) -> float:
    """Encoding and searching in large batches, one thread a core, without a server."""
    batches = [questions[start : start + batch] for start in range(0, len(questions), batch)]
    with ThreadPoolExecutor(cpu_count()) as threads:
        start = time.perf_counter()
        list(threads.map(lambda texts: retriever.search(texts, 3), batches))
        return len(questions) / (time.perf_counter() - start)


@contextmanager
def _plain_server(fixture: Fixture, side: Side, *options: str, port: int = 18_101) -> Iterator[str]:
    files = ("--encoder", fixture.encoder, "--corpus", fixture.corpus, "--index", fixture.index)
    # As shipped: with the threads that torch and FAISS choose by themselves.
    with _server("benchmarks.plain_retriever", *files, *options, port=port, side=side) as url:
        yield url


@contextmanager
def _our_server(fixture: Fixture, side: Side) -> Iterator[str]:
    files = ("--retriever_model", fixture.encoder, "--corpus_path", fixture.corpus, "--index_path", fixture.index)
    command = ("serve-retriever", "--retriever_name", "e5", *files)
    with _server("slime_search.cli", *command, port=18_102, side=side) as url:
        yield url


@contextmanager
def _server(module: str, *options: str | Path, port: int, side: Side) -> Iterator[str]:
    command = [sys.executable, "-m", module, *map(str, options), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + READY_S
            while not readiness.ask(f"http://127.0.0.1:{port}/ready").ready:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{module} did not get ready:\n{log.read().decode(errors='replace')[-2_000:]}")
                time.sleep(0.05)
            side.ready_s = time.monotonic() - started
            of_server = psutil.Process(process.pid)
            side.memory_mb = (
                sum(one.memory_info().rss for one in (of_server, *of_server.children(recursive=True))) / 1e6
            )
            yield f"http://127.0.0.1:{port}/retrieve"
        finally:
            process.terminate()
            process.wait()


def _report(console: Console, measured: Measured) -> list[Verdict]:
    table = Table(title=f"One question a request; medians of {len(measured.ours.lone_ms)} rounds", title_justify="left")
    for heading in ("", "1 client, p50", f"{CLIENTS} clients", "p50", "p99", "ready after", "memory"):
        table.add_column(heading, justify="left" if not heading else "right")
    sides = (("plain server", measured.plain), ("plain server, tuned", measured.tuned), ("slime-search", measured.ours))
    for name, side in sides:
        table.add_row(
            name,
            f"{statistics.median(side.lone_ms):.1f} ms",
            f"{_spread(side.queries_per_s)} q/s",
            f"{statistics.median(side.p50_s) * 1e3:.0f} ms",
            f"{statistics.median(side.p99_s) * 1e3:.0f} ms",
            f"{side.ready_s:.1f} s",
            f"{side.memory_mb:.0f} MB",
        )
    table.add_row(
        f"slime-search, every question {REPEATS} times", "", f"{_spread(measured.repeated_per_s)} q/s", "", ""
    )
    table.add_row("offline, large batches", "", f"{_spread(measured.offline_per_s)} q/s", "", "")
    small = f"offline, {CLIENTS // cpu_count()} a batch"
    table.add_row(small, "", f"{_spread(measured.offline_small_per_s)} q/s", "", "")
    console.print(table)
    verdicts = _verdicts(measured)
    for verdict in verdicts:
        console.print(str(verdict))
    return verdicts


def _verdicts(measured: Measured) -> list[Verdict]:
    def ratio(numbers: Callable[[Side], list[float]], to: Side = measured.plain) -> float:
        return statistics.median(numbers(measured.ours)) / statistics.median(numbers(to))

    rate = statistics.median(measured.ours.queries_per_s)
    repeated = statistics.median(measured.repeated_per_s) / rate
    crowd = f"at {CLIENTS} clients"
    return [
        Verdict(
            f"queries/s {crowd} against the plain server", ratio(lambda side: side.queries_per_s), 8, at_least=True
        ),
        Verdict(
            f"queries/s {crowd} against the tuned one",
            ratio(lambda side: side.queries_per_s, measured.tuned),
            1,
            at_least=True,
        ),
        Verdict("ready, of the plain server's time", measured.ours.ready_s / measured.plain.ready_s, 1, at_least=False),
        Verdict("memory, of the plain server's", measured.ours.memory_mb / measured.plain.memory_mb, 1, at_least=False),
        Verdict(f"p99 {crowd}, of the plain server's", ratio(lambda side: side.p99_s), 1 / 4, at_least=False),
        Verdict("latency at 1 client, of the plain server's", ratio(lambda side: side.lone_ms), 1.05, at_least=False),
        Verdict(
            f"queries/s {crowd}, of the best offline rate",
            rate / statistics.median(measured.offline_per_s),
            0.8,
            at_least=True,
        ),
        Verdict(f"queries/s with {REPEATS}-fold questions against distinct ones", repeated, 3, at_least=True),
        Verdict("top-3 ids that are the plain server's (fp32, exact)", measured.agreement, 0.98, at_least=True),
    ]


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"


if __name__ == "__main__":
    typer.run(main)
