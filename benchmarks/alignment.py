"""What the alignment of two tokenizers costs: ``python -m benchmarks.alignment``.

A turn of 10,000 tokens, in two vocabularies that this makes itself. What is measured and why: benchmarks/README.md.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.machine import describe
from slime_search.recipes.distillation.alignment import Run, transfer
from slime_search.recipes.distillation.token_bytes import TokenBytes

TOKENS = 10_000
TARGET_S = 0.050
ROUNDS = 15


def vocabulary(words: Sequence[str], size: int) -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([" ".join(words)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def by_byte(student_sizes: Sequence[int], teacher_sizes: Sequence[int], log_probs: Sequence[float]) -> list[float]:
    """The baseline: which tokens hold each byte, written down byte by byte, and what each pair shares, looked up."""
    holder = [token for token, size in enumerate(teacher_sizes) for _ in range(size)]
    partners: list[list[int]] = []
    start = 0
    for size in student_sizes:
        partners.append(sorted(set(holder[start : start + size])))
        start += size
    counts = [0] * len(teacher_sizes)
    for row in partners:
        for token in row:
            counts[token] += 1
    return [sum(log_probs[token] / counts[token] for token in row) for row in partners]


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time of one thread, which others on the machine leave alone."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(rounds: Annotated[int, typer.Option(help="Rounds, in which the cases take turns.")] = ROUNDS) -> None:
    """Time the alignment against the byte-by-byte way, the tokenizer that goes before it, and ten times the tokens."""
    console = Console()
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz東京éü"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(1_200)]
    student, teacher = vocabulary(words, 4_000), vocabulary(words[::2], 2_000)
    text = " ".join(rng.choices(words, k=6 * TOKENS))
    ids = student.encode(text)[: 10 * TOKENS]
    cases = {}
    for name, count in (("whole", TOKENS), ("ten times as long", 10 * TOKENS)):
        sizes = [len(piece) for piece in TokenBytes(student).of(ids[:count])]
        told = b"".join(TokenBytes(student).of(ids[:count])).decode(errors="replace")
        teacher_ids = teacher.encode(told)
        teacher_sizes = [len(piece) for piece in TokenBytes(teacher).of(teacher_ids)]
        length = min(sum(sizes), sum(teacher_sizes))
        cases[name] = sizes, teacher_sizes, [Run(0, 0, length)], [-rng.random() for _ in teacher_sizes], told
    sizes, teacher_sizes, runs, log_probs, told = cases["whole"]
    given, expected = transfer(sizes, teacher_sizes, runs, log_probs), by_byte(sizes, teacher_sizes, log_probs)
    assert all(a is not None and abs(a - b) < 1e-9 for a, b in zip(given[:-1], expected[:-1], strict=True))

    works: dict[str, Callable[[], object]] = {
        "alignment": lambda: transfer(sizes, teacher_sizes, runs, log_probs),
        "byte by byte (baseline)": lambda: by_byte(sizes, teacher_sizes, log_probs),
        "the teacher's tokenizer, in Rust": lambda: teacher.encode(told),
        "alignment of ten times the tokens": lambda: transfer(*cases["ten times as long"][:4]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(cpu_s(work))
    console.print(describe("tokenizers"), soft_wrap=True)
    console.print(f"command: python -m benchmarks.alignment --rounds {rounds}", soft_wrap=True)
    baseline = statistics.median(seconds["byte by byte (baseline)"])
    table = Table("case", "CPU time", "range", "of the baseline")
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"{1e3 * min(values):.1f}–{1e3 * max(values):.1f} ms"
        table.add_row(name, f"{1e3 * median:.1f} ms", spread, f"{median / baseline:.2f}")
    table.caption = (
        f"{len(sizes):,} tokens of the student, {len(teacher_sizes):,} of the teacher, {len(told):,} letters"
    )
    console.print(table)
    met = statistics.median(seconds["alignment"]) <= TARGET_S
    console.print(
        f"{len(sizes):,} tokens in at most {1e3 * TARGET_S:.0f} ms: {'target met' if met else 'TARGET MISSED'}"
    )
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    typer.run(main)
