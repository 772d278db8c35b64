"""How fast a corpus is read for gold answers: ``python -m benchmarks.coverage``.

Passages of 100 made-up words, some frequent and most rare, and answers of one to four of them. The baseline asks exact
match's own function, passage by passage, whether one of the answers stands there; a few passages are enough to time it.
"""

import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.machine import describe
from slime_search.ops.coverage import scan
from slime_search.retrieval.corpus import Corpus
from slime_search.rewards.text import cover_exact_match

WIKIPEDIA = 21_015_324
WORDS, WORDS_A_PASSAGE = 300_000, 100
_TIMED_BY_BASELINE = 5


def main(
    passages: Annotated[int, typer.Option(min=_TIMED_BY_BASELINE)] = 200_000,
    answers: Annotated[int, typer.Option(min=1)] = 200_000,
    processes: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Prints passages a second, the ratio to the baseline, and what Wikipedia's would take."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(describe())
    rng = random.Random(0)
    wanted = [_text(rng, rng.randint(1, 4)) for _ in range(answers)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        with path.open("w") as file:
            file.writelines(f"{json.dumps({'contents': text})}\n" for text in _passages(rng, passages))
        first = [text for text, _ in zip(Corpus.read(path).texts(), range(_TIMED_BY_BASELINE), strict=False)]
        started = time.perf_counter()
        for text in first:
            for answer in wanted:
                cover_exact_match(text, [answer])
        baseline = _TIMED_BY_BASELINE / (time.perf_counter() - started)
        started = time.perf_counter()
        found = scan(path, wanted, lambda done, total: None, processes)
        rate = passages / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    console.print(f"{passages:,} passages, {answers:,} answers, of which {len(found):,} stand somewhere")
    console.print(f"baseline: {baseline:.2f} passages/s")
    console.print(f"{processes} processes: {rate:,.0f} passages/s, {rate / baseline:,.0f} × the baseline, {peak} MiB")
    console.print(f"{WIKIPEDIA:,} passages, extrapolated: {WIKIPEDIA / rate / 60:.1f} minutes")


def _passages(rng: random.Random, count: int) -> Iterator[str]:
    return (f'"{_text(rng, 2)}"\n{_text(rng, WORDS_A_PASSAGE)}.' for _ in range(count))


def _text(rng: random.Random, words: int) -> str:
    return " ".join(f"Word{int(WORDS ** rng.random())}" for _ in range(words))


if __name__ == "__main__":
    typer.run(main)
