"""What ``slime-search view`` needs for many rollouts: ``python -m benchmarks.viewer``.

The baseline loads every record into memory, as a page without an index has to. What is measured and why:
benchmarks/README.md.
"""

import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe

TARGET_MIB = 150


def write_rollouts(path: Path, count: int, *, seed: int = 0) -> None:
    """Rollouts of three turns and two searches with three passages each, about 1,150 tokens."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(2_000)]

    def segment(owner: str, length: int) -> dict[str, Any]:
        tokens = [f" {word}" for word in rng.choices(words, k=length)]
        made = {"owner": owner, "trained": owner == "model", "tokens": tokens, "is_correction": False}
        made["token_ids"] = rng.choices(range(150_000), k=length)
        if owner == "model":
            made["log_probs"] = [round(-rng.expovariate(3), 5) for _ in tokens]
        return made

    shape = (("prompt", 120), ("model", 60), ("world", 400), ("model", 60), ("world", 400), ("model", 60))
    # A few that are written again and again: only their texts, which the index keeps, have to differ.
    templates = []
    for _ in range(50):
        passages = [{"title": " ".join(rng.choices(words, k=3)), "text": " ".join(rng.choices(words, k=100))}] * 3
        calls = [
            {"turn": turn, "tool": "search", "query": words[turn], "passages": passages, "latency_s": 0.1}
            for turn in range(2)
        ]
        segments = [segment(owner, length) for owner, length in shape]
        templates.append([{"ending": "answered", "answer": "a", "segments": segments, "calls": calls}])
    with path.open("wb") as file:
        for number in range(count):
            right = rng.random() < 0.4
            row = {"id": str(number), "group": str(number // 8), "recipe": "search-r1", "source": "nq"}
            row |= {"question": " ".join(rng.choices(words, k=12)), "answer": words[number % 2_000]}
            row |= {"ending": "answered", "reward": float(right), "score": {"em": float(right)}}
            file.write(orjson.dumps({**row, "runs": templates[number % 50]}, option=orjson.OPT_APPEND_NEWLINE))


def write_dump(path: Path, lines: Path) -> None:
    """The rollouts of ``lines`` as slime saves its samples."""
    import torch

    samples = []
    for line in lines.open("rb"):
        row = orjson.loads(line)
        prompt, *response = row["runs"][0]["segments"]
        mask = [int(one["owner"] == "model") for one in response for _ in one["tokens"]]
        samples.append(
            {
                "group_index": int(row["group"]),
                "index": int(row["id"]),
                "prompt": f"Question: {row['question']}",
                "tokens": [token for one in (prompt, *response) for token in one["token_ids"]],
                "response_length": len(mask),
                "loss_mask": mask,
                "rollout_log_probs": [
                    value for one in response for value in one.get("log_probs") or [0.0] * len(one["tokens"])
                ],
                "reward": row["reward"],
                "status": "completed",
                "metadata": {},
            }
        )
    torch.save({"rollout_id": 0, "samples": samples}, path)


def index(path: Path) -> dict[str, float]:
    from slime_search.viewer.opening import open_library
    from slime_search.viewer.pages import Pages
    from slime_search.viewer.selection import Selection

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as spool, Progress(disable=True) as progress:
        library = open_library([path], spool=Path(spool), progress=progress)
        opening = time.perf_counter() - began
        pages = Pages(library)
        filtered = [
            _seconds(lambda word=word: pages.listing(Selection(text=word, sort="reward"), 1)) for word in "abcde"
        ]
        numbers = random.Random(0).sample(range(len(library.entries)), 20)
        opened = [_seconds(lambda number=number: pages.rollout(number, Selection())) for number in numbers]
    return {"opening": opening, "filter": statistics.median(filtered), "rollout": statistics.median(opened)}


def load_all(path: Path) -> dict[str, float]:
    """The baseline, in plain dicts: checked records would take several times as much."""
    began = time.perf_counter()
    with path.open("rb") as lines:
        rows = [orjson.loads(line) for line in lines]
    opening = time.perf_counter() - began
    began = time.perf_counter()
    sorted((row for row in rows if "a" in row["question"]), key=lambda row: row["reward"])
    return {"opening": opening, "filter": time.perf_counter() - began}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measure(work: Callable[[Path], dict[str, float]], path: Path, answer: Any) -> None:
    told = work(path)
    # Not getrusage, whose maximum is inherited from the parent.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    answer.send({**told, "mib": int(status["VmHWM"].split()[0]) / 1024})


def in_a_process(work: Callable[[Path], dict[str, float]], path: Path) -> dict[str, float]:
    """Its own, so that the greatest size it had is its own too."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(work, path, there))
    process.start()
    there.close()
    try:
        told: dict[str, float] = here.recv()
    except EOFError:
        raise SystemExit(f"{work.__name__} died, perhaps for want of memory; give fewer --rollouts") from None
    process.join()
    return told


def main(
    rollouts: Annotated[int, typer.Option(help="Rollouts in the file.")] = 50_000,
    dumped: Annotated[int, typer.Option(help="Samples in a dump of slime.")] = 2_048,
    baseline: Annotated[
        int, typer.Option(help="Rollouts that the baseline loads; its size is scaled up from them.")
    ] = 10_000,
) -> None:
    """Time and memory of opening, filtering and reading a file, against loading all of it."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "rollouts.jsonl", Path(folder) / "part.jsonl"
        write_rollouts(whole, rollouts)
        write_rollouts(part, baseline)
        few, dump = Path(folder) / "few.jsonl", Path(folder) / "0.pt"
        write_rollouts(few, dumped)
        write_dump(dump, few)
        size = whole.stat().st_size
        console.print(describe("orjson"), soft_wrap=True)
        console.print(
            f"command: python -m benchmarks.viewer --rollouts {rollouts} --dumped {dumped} --baseline {baseline}",
            soft_wrap=True,
        )
        viewer, all_of_it = in_a_process(index, whole), in_a_process(load_all, part)
        of_a_dump = in_a_process(index, dump)
    table = Table("", "rollouts", "greatest RSS", "opening", "filter and sort", "one rollout")
    cases = (
        ("slime-search view, lines", rollouts, viewer),
        ("slime-search view, a dump", dumped, of_a_dump),
        ("all lines in memory", baseline, all_of_it),
    )
    for name, count, told in cases:
        page = f"{1e3 * told['rollout']:.0f} ms" if "rollout" in told else ""
        row = (f"{count:,}", f"{told['mib']:,.0f} MiB", f"{told['opening']:.1f} s", f"{1e3 * told['filter']:.0f} ms")
        table.add_row(name, *row, page)
    table.caption = f"a file of {size / 1e9:.2f} GB, {size / rollouts / 1e3:.0f} kB a rollout"
    console.print(table)
    console.print(f"All of {rollouts:,} in memory: some {all_of_it['mib'] * rollouts / baseline:,.0f} MiB.")
    met = viewer["mib"] <= TARGET_MIB
    console.print(f"At most {TARGET_MIB} MiB: {'target met' if met else 'TARGET MISSED'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    typer.run(main)
