"""Wikipedia's 21,015,324 passages, built, opened, served and asked: ``python -m benchmarks.full_size FOLDER``.

The vectors are generated (``embedding_like.py``), the passages are short. Each stage is done once: what it measured is
kept in ``FOLDER/measured.json``, and an interrupted run goes on where it was. The baseline is exact search of the same
float16 vectors from the disk, in the same run. Results: full_size.md.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import psutil
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.closed_loop import Load, ask
from benchmarks.embedding_like import CHUNK, EmbeddingLike, Floats
from benchmarks.lean_indexes import BATCH, TOPK, WIKIPEDIA
from benchmarks.machine import describe
from benchmarks.retrieval_fixture import save_encoder, some_words
from slime_search.retrieval.indexing.building import build, true_neighbours
from slime_search.retrieval.indexing.inputs import Questions
from slime_search.retrieval.indexing.vector_file import CHUNK_ROWS
from slime_search.retrieval.vectors.manifest import VECTORS, Kind, Source
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.stored import Stored
from slime_search.transport import readiness

QUERIES = 200
CALLS = 20
CLIENTS = 16
LOAD_S = 60
READY_S = 600
PORT = 18_110
_ROW = '{"id": "%d", "contents": "\\"Title %d\\"\\nPassage %d."}\n'

Numbers = dict[str, Any]


class Generated:
    """Vectors made when they are asked for, as an input of a build."""

    def __init__(self, count: int) -> None:
        self._like = EmbeddingLike(count)
        self.count, self.dimension = count, self._like.dimension
        self.generated_s = 0.0

    def chunks(self, first: int) -> Iterator[Floats]:
        for start in range(first // CHUNK * CHUNK, self.count, CHUNK):
            began = time.perf_counter()
            made = self._like.chunk(start)[max(0, first - start) :]
            self.generated_s += time.perf_counter() - began
            for row in range(0, len(made), CHUNK_ROWS):
                yield made[row : row + CHUNK_ROWS]

    def questions(self, stored: Stored, how_many: int) -> Questions:
        near = np.asarray(stored[:: max(1, self.count // QUERIES)][:QUERIES], np.float32)
        return Questions(self._like.queries(near), "generated queries")


def main(
    folder: Annotated[Path, typer.Argument(help="Keeps everything; 35 GB for the full size.")],
    count: Annotated[int, typer.Option(help="Vectors.")] = WIKIPEDIA,
    stage: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Builds a rabitq store with a corpus, and measures it cold, warm and behind the server."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "measured.json"
    numbers: Numbers = json.loads(kept.read_text()) if kept.exists() else {}
    stages = {"build": _build, "corpus": _write_corpus, "search": _search, "exact": _exact, "serve": _serve}
    if stage is not None:
        print(json.dumps(stages[stage](folder, count)))
        return
    console = Console(width=120)
    command = f"python -m benchmarks.full_size {folder.name} --count {count}"
    console.print(f"{describe('faiss-cpu', 'torch')}\ncommand: {command}")
    for name in stages:
        if name not in numbers:
            console.print(f"{name} ...")
            # In a process of its own, whose memory is this stage's alone.
            run = [sys.executable, "-m", "benchmarks.full_size", str(folder), "--count", str(count), "--stage", name]
            numbers[name] = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)
            kept.write_text(json.dumps(numbers, indent=2) + "\n")
    _report(console, count, numbers)


def _build(folder: Path, count: int) -> Numbers:
    given = Generated(count)
    start = time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress, _peak() as peak:
        manifest = build(folder / "store", Source(kind=Kind.RABITQ, shards=1, count=count), lambda: given, progress)
    assert manifest.self_test is not None
    return {
        "build_s": time.perf_counter() - start - given.generated_s,
        "generate_s": given.generated_s,
        "disk_gb": sum(manifest.sizes.values()) / 1e9,
        "codes_gb": sum(size for name, size in manifest.sizes.items() if name != VECTORS) / 1e9,
        "recall": manifest.self_test.recall,
        **peak,
    }


def _write_corpus(folder: Path, count: int) -> Numbers:
    start = time.perf_counter()
    with (folder / "corpus.jsonl").open("w") as file:
        for first in range(0, count, 10_000):
            file.write("".join(_ROW % (row, row, row) for row in range(first, min(count, first + 10_000))))
    return {"written_s": time.perf_counter() - start, "disk_gb": (folder / "corpus.jsonl").stat().st_size / 1e9}


def _search(folder: Path, count: int) -> Numbers:
    """On one thread; cold is a page cache without any of the store's files."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    store = folder / "store"
    asked = Generated(count).questions(np.load(store / VECTORS, mmap_mode="r"), QUERIES).vectors
    numbers: Numbers = {}
    _forget(store)
    start = time.perf_counter()
    index = open_index(store)
    numbers["open_s"] = time.perf_counter() - start

    def timed(first: int, size: int) -> float:
        start = time.perf_counter()
        index.search(asked[first : first + size], TOPK)
        return (time.perf_counter() - start) * 1e3

    numbers["first_ms"] = timed(0, 1)
    # The codes are in memory from now on; the candidates' vectors are not.
    numbers["one_cold_ms"] = float(np.median([timed(row, 1) for row in range(1, 1 + CALLS)]))
    numbers["one_ms"] = float(np.median([timed(row, 1) for row in range(1, 1 + CALLS)]))
    numbers["batch_cold_ms"] = timed(QUERIES - BATCH, BATCH)
    numbers["batch_ms"] = float(np.median([timed(QUERIES - BATCH, BATCH) for _ in range(3)]))
    memory = psutil.Process().memory_full_info()
    return numbers | {"rss_gb": memory.rss / 1e9}


def _exact(folder: Path, count: int) -> Numbers:
    """The baseline: every vector read from the disk and multiplied in float32, on all cores."""
    vectors = np.load(folder / "store" / VECTORS, mmap_mode="r")
    questions = Generated(count).questions(vectors, QUERIES)
    start = time.perf_counter()
    true_neighbours(vectors, Questions(questions.vectors[:BATCH], ""))
    return {"batch_ms": (time.perf_counter() - start) * 1e3}


def _serve(folder: Path, count: int) -> Numbers:
    encoder = folder / "encoder"
    if not encoder.exists():
        save_encoder(encoder, "base", some_words())
    command = [sys.executable, "-m", "slime_search.cli", "serve-retriever", "--port", str(PORT)]
    command += ["--corpus_path", str(folder / "corpus.jsonl"), "--index_path", str(folder / "store")]
    command += ["--retriever_name", "e5", "--retriever_model", str(encoder)]
    url = f"http://127.0.0.1:{PORT}"
    numbers: Numbers = {}
    for name in ("first_ready_s", "ready_s"):  # The first start reads the corpus for the places of its rows.
        start = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not readiness.ask(f"{url}/ready").ready:
                if server.poll() is not None or time.perf_counter() - start > READY_S:
                    raise RuntimeError(f"the server is not ready after {READY_S} s, or has ended: {command}")
                time.sleep(0.2)
            numbers[name] = time.perf_counter() - start
            if name == "ready_s":
                load = _load(f"{url}/retrieve")
                numbers |= {"queries_per_s": load.queries_per_s, "asked": len(load.latencies_s)}
                numbers |= {"p50_s": load.quantile_s(0.5), "p99_s": load.quantile_s(0.99)}
                family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
                numbers["rss_gb"] = sum(one.memory_info().rss for one in family) / 1e9
        finally:
            server.terminate()
            server.wait()
    return numbers


def _load(url: str) -> Load:
    """As many questions as take a minute, none of them twice."""
    draw, words = random.Random(0), some_words()
    questions = iter(lambda: f"what {' '.join(draw.sample(words, k=12))}?", None)
    trial = asyncio.run(ask(url, [next(questions) for _ in range(4 * CLIENTS)], clients=CLIENTS))
    asked = max(4 * CLIENTS, int(trial.queries_per_s * LOAD_S))
    return asyncio.run(ask(url, [next(questions) for _ in range(asked)], clients=CLIENTS))


def _forget(store: Path) -> None:
    """Takes the files out of the page cache; nothing has them mapped."""
    for path in store.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _peak() -> Iterator[Numbers]:
    """The highest memory of this process, once the block is left."""
    numbers: Numbers = {}
    yield numbers
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    numbers["peak_rss_gb"] = int(status["VmHWM"].split()[0]) * 1024 / 1e9


def _report(console: Console, count: int, numbers: Numbers) -> None:
    built, searched, exact, served = (numbers[name] for name in ("build", "search", "exact", "serve"))
    table = Table(title=f"rabitq, {count:,} × 768, measured", title_justify="left", show_header=False)
    rows = [
        ("build, without the generation of the vectors", f"{built['build_s'] / 60:.1f} min"),
        ("peak RSS of the build", f"{built['peak_rss_gb']:.1f} GB"),
        ("disk: vectors and codes / codes alone", f"{built['disk_gb']:.1f} / {built['codes_gb']:.2f} GB"),
        (f"recall@{TOPK} / recall@10, {QUERIES} queries", " / ".join(f"{built['recall'][k]:.4f}" for k in ("3", "10"))),
        ("open", f"{searched['open_s']:.2f} s"),
        ("first query, nothing in the page cache", f"{searched['first_ms']:,.0f} ms"),
        ("one query on one thread, vectors cold / warm", _both(searched["one_cold_ms"], searched["one_ms"])),
        (f"{BATCH} at once, the same", _both(searched["batch_cold_ms"], searched["batch_ms"])),
        (f"exact search of {BATCH} from the disk, all cores", f"{exact['batch_ms']:,.0f} ms"),
        (f"that, of {BATCH} at once on one thread", f"{exact['batch_ms'] / searched['batch_ms']:.1f} ×"),
        ("server ready, first start / later", f"{served['first_ready_s']:.0f} / {served['ready_s']:.0f} s"),
        (f"queries/s at {CLIENTS} clients", f"{served['queries_per_s']:.2f}"),
        ("p50 / p99", f"{served['p50_s']:.1f} / {served['p99_s']:.1f} s"),
        ("RSS of the server after that", f"{served['rss_gb']:.2f} GB"),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _both(cold_ms: float, warm_ms: float) -> str:
    return f"{cold_ms:,.0f} / {warm_ms:,.0f} ms"


if __name__ == "__main__":
    typer.run(main)
