"""Memory, recall and latency of what ``build-index`` builds: ``python -m benchmarks.lean_indexes``.

The vectors are generated to resemble a sentence encoder's (``embedding_like.py``). The baseline, FAISS's flat index in
float32, is measured in the same run on the same vectors. Results: lean_indexes.md.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import faiss
import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.embedding_like import EmbeddingLike, Floats
from benchmarks.machine import describe
from slime_search.retrieval.indexing.building import build
from slime_search.retrieval.indexing.inputs import Questions
from slime_search.retrieval.indexing.vector_file import CHUNK_ROWS
from slime_search.retrieval.vectors.manifest import VECTORS, Kind, Manifest, Source
from slime_search.retrieval.vectors.opening import open_index
from slime_search.retrieval.vectors.stored import Stored
from slime_search.retrieval.vectors.vector_index import VectorIndex

WIKIPEDIA = 21_015_324
TOPK = 3
BATCH = 32
MAX_OPEN_S = 5.0


class Target(NamedTuple):
    memory: float
    """Share of the bytes that flat float32 takes, at most."""
    recall: float
    """Of the best 3, at least."""


TARGETS = {Kind.SQ8: Target(1 / 4, 0.99), Kind.RABITQ: Target(1 / 16, 0.97)}


class Latency(NamedTuple):
    """Milliseconds a call, with one query or with 32."""

    p50: float
    p99: float


class Result(NamedTuple):
    name: str
    vectors: int
    recall: float
    code_bytes: int
    one: Latency
    batch: Latency
    build_s: float
    open_s: float


class Generated:
    """Vectors in memory, as an input of a build."""

    def __init__(self, vectors: Stored, queries: Floats) -> None:
        self._vectors = vectors
        self._queries = queries
        self.count, self.dimension = vectors.shape

    def chunks(self, first: int) -> Iterator[Floats]:
        for start in range(first, self.count, CHUNK_ROWS):
            yield np.asarray(self._vectors[start : start + CHUNK_ROWS], np.float32)

    def questions(self, stored: Stored, how_many: int) -> Questions:
        return Questions(self._queries, "generated queries")


def main(
    count: Annotated[list[int] | None, typer.Option(help="Vectors; give it twice for the growth.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Kinds; all that are lean without it.")] = None,
    queries: Annotated[int, typer.Option(help="Of the recall.")] = 500,
    folder: Annotated[Path | None, typer.Option(help="Where stores are built; temporary without it.")] = None,
) -> None:
    """Measures every kind at every count on one thread; exits with 1 when a target is missed."""
    counts = sorted(count or [100_000, 1_000_000])
    kinds = kind or [Kind.SQ8, Kind.RABITQ]
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    console = Console(width=150)
    options = " ".join([*(f"--count {one}" for one in counts), *(f"--kind {one}" for one in kinds)])
    console.print(f"{describe('faiss-cpu', 'torch')}\ncommand: python -m benchmarks.lean_indexes {options}")
    results: list[Result] = []
    with Progress(console=console, transient=True) as progress:
        for of_count in counts:
            with tempfile.TemporaryDirectory(dir=folder) as stores:
                results += _measure(Path(stores), of_count, kinds, queries, progress)
    _print_table(console, results)
    _print_growth(console, results)
    met = [_verdict(console, result) for result in results if result.vectors == counts[-1]]
    raise typer.Exit(0 if all(met) else 1)


def _measure(stores: Path, count: int, kinds: Sequence[Kind], queries: int, progress: Progress) -> list[Result]:
    generating = progress.add_task(f"generating {count:,}", total=count)
    generator = EmbeddingLike(count)
    vectors = np.empty((count, generator.dimension), np.float16)
    filled = 0
    for chunk in generator.chunks():
        vectors[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
        progress.update(generating, completed=filled)
    asked = generator.queries(vectors[:: max(1, count // queries)][:queries].astype(np.float32))
    results = [_measure_flat(vectors, asked)]
    for kind in kinds:
        store = stores / kind
        source = Source(kind=kind, shards=1, count=count)
        given = Generated(vectors, asked)
        start = time.perf_counter()
        manifest = build(store, source, lambda given=given: given, progress)  # type: ignore[misc]
        built_s = time.perf_counter() - start
        results.append(_measure_store(store, manifest, asked, built_s))
    return results


def _measure_flat(vectors: Stored, asked: Floats) -> Result:
    """FAISS's flat index at its best settings, whose searches take long enough that a few of them say it."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    # FAISS 1.14.3 and later leave batches to BLAS from 128,000 products a block on; earlier ones from 20.
    faiss.cvar.distance_compute_blas_threshold = 20
    start = time.perf_counter()
    for first in range(0, len(vectors), CHUNK_ROWS):
        index.add(vectors[first : first + CHUNK_ROWS].astype(np.float32))
    built_s = time.perf_counter() - start
    one = _latency(lambda some: index.search(some, TOPK), asked, 1, 10)
    batch = _latency(lambda some: index.search(some, TOPK), asked, BATCH, 2)
    return Result("flat fp32 (faiss)", len(vectors), 1.0, vectors.size * 4, one, batch, built_s, 0.0)


def _measure_store(store: Path, manifest: Manifest, asked: Floats, built_s: float) -> Result:
    start = time.perf_counter()
    index: VectorIndex = open_index(store)
    index.search(asked[:1], TOPK)
    open_s = time.perf_counter() - start
    one = _latency(lambda some: index.search(some, TOPK), asked, 1, 100)
    batch = _latency(lambda some: index.search(some, TOPK), asked, BATCH, 15)
    code_bytes = sum(size for name, size in manifest.sizes.items() if name != VECTORS)
    name = str(manifest.source.kind)
    assert manifest.self_test is not None
    recall = manifest.self_test.recall[TOPK]
    return Result(name, manifest.source.count, recall, code_bytes, one, batch, built_s, open_s)


def _latency(search: Callable[[Floats], object], asked: Floats, size: int, calls: int) -> Latency:
    times = []
    for call in range(calls + 1):
        start_row = call * size % max(1, len(asked) - size)
        start = time.perf_counter()
        search(asked[start_row : start_row + size])
        times.append((time.perf_counter() - start) * 1e3)
    return Latency(*np.percentile(times[1:], [50, 99]).tolist())


def _print_table(console: Console, results: Sequence[Result]) -> None:
    table = Table(title="One thread, 768 dimensions, top 3, rescored from float16 on disk", title_justify="left")
    headings = ("vectors", "index", "recall@3", "codes", "of flat", "1 query p50 / p99", "32 queries p50 / p99")
    for heading in (*headings, "× flat, 1", "× flat, 32", "build", "open"):
        table.add_column(heading, justify="left" if heading == "index" else "right")
    flat = results[0]
    for one in results:
        flat = one if one.name.startswith("flat") else flat
        table.add_row(
            f"{one.vectors:,}",
            one.name,
            f"{one.recall:.4f}",
            f"{one.code_bytes / 1e6:,.0f} MB",
            f"{one.code_bytes / flat.code_bytes:.4f}",
            f"{one.one.p50:.1f} / {one.one.p99:.1f} ms",
            f"{one.batch.p50:.0f} / {one.batch.p99:.0f} ms",
            f"{flat.one.p50 / one.one.p50:.1f}",
            f"{flat.batch.p50 / one.batch.p50:.1f}",
            f"{one.build_s:.0f} s",
            f"{one.open_s:.2f} s",
        )
    console.print(table)


def _print_growth(console: Console, results: Sequence[Result]) -> None:
    """Bytes go with the count; latency is taken to go on along the line between the two counts."""
    for kind in Kind:
        of_kind = [one for one in results if one.name.startswith(kind) and not one.name.startswith("flat")]
        if len(of_kind) < 2:
            continue
        small, large = of_kind[0], of_kind[-1]
        grown = (WIKIPEDIA - large.vectors) / (large.vectors - small.vectors)
        per_decade = (small.recall - large.recall) / np.log10(large.vectors / small.vectors)
        console.print(
            f"{kind} at {WIKIPEDIA:,}: {large.code_bytes / large.vectors * WIKIPEDIA / 1e9:.1f} GB of codes, "
            f"{large.one.p50 + grown * (large.one.p50 - small.one.p50):,.0f} ms for 1 query and "
            f"{large.batch.p50 + grown * (large.batch.p50 - small.batch.p50):,.0f} ms for {BATCH} on one thread, "
            f"recall@3 {large.recall - per_decade * np.log10(WIKIPEDIA / large.vectors):.3f}"
        )


def _verdict(console: Console, result: Result) -> bool:
    kind = next((kind for kind in TARGETS if result.name == kind), None)
    if kind is None:
        return True
    share, target = result.code_bytes / (result.vectors * 768 * 4), TARGETS[kind]
    met = result.recall >= target.recall and round(share, 3) <= target.memory and result.open_s < MAX_OPEN_S
    outcome = "[green]met[/green]" if met else "[red]MISSED[/red]"
    console.print(
        f"{kind}: recall@3 {result.recall:.4f} (target ≥ {target.recall}), {share:.4f} of flat's memory "
        f"(target ≤ {target.memory:.4f}), open in {result.open_s:.2f} s (target < {MAX_OPEN_S:.0f} s): {outcome}"
    )
    return met


if __name__ == "__main__":
    typer.run(main)
