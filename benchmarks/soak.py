"""Whether the retrieval server keeps its size under hours of load: ``python -m benchmarks.soak`` (Linux).

What is asked and what counts as growth: benchmarks/README.md.
"""

import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

PASSAGES = 5_000
WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "re", "so", "ta", "vi") for b in ("dor", "len", "mar", "pis", "tun")
]
REPEATED_QUERIES = 200
CLIENTS = 12
LEAVERS = 2
PAUSE_S = 0.01
BURST_EVERY_S = 5.0
BURST_REQUESTS = 150
BURST_QUERIES = 16
SETTLE_S = 1.0
GROWTH = 0.02
"""The share by which the memory of the last third may lie over that of the second: allocators are not exact."""

SERVER_OPTIONS = ("--port", "0", "--queue-size", "256", "--cache-mb", "2")
BAD_BODIES: tuple[bytes, ...] = (
    b"",
    b"not JSON",
    b'{"queries": ["caf\xe9"]}',
    b'{"queries": 5}',
    b'{"queries": ["x"], "topk": -1}',
    b'{"queries": ["x"], "topk": 1000000}',
    json.dumps({"queries": ["x" * 20_000]}).encode(),
    json.dumps({"queries": [str(number) for number in range(5_000)]}).encode(),
)


class Size(NamedTuple):
    """What the server's process takes."""

    rss_bytes: int
    files: int
    threads: int


class Load:
    """Clients that can be held, what they were answered and how long they waited for it."""

    def __init__(self, url: str, seed: int) -> None:
        self.latencies_s: dict[int, list[float]] = defaultdict(list)
        self.left = 0
        self.unexpected: Counter[str] = Counter()
        self._url = f"{url}/retrieve"
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._repeated = [self._words() for _ in range(REPEATED_QUERIES)]
        self._running = asyncio.Event()
        self._in_flight = 0

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Around a look at the server while it has nothing to do."""
        self._running.clear()
        while self._in_flight:  # noqa: ASYNC110 -- a look every 30 s needs no condition variable
            await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLE_S)
        yield
        self._running.set()

    async def run(self) -> None:
        """Plays until it is cancelled."""
        self._running.set()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())
            for _ in range(LEAVERS):
                group.create_task(self._leaver())
            group.create_task(self._bursts())

    async def _turn(self, work: Callable[[], Awaitable[object]]) -> None:
        await self._running.wait()
        self._in_flight += 1
        try:
            await work()
        finally:
            self._in_flight -= 1

    async def _client(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                bad = self._random.random() < 0.05
                body = self._random.choice(BAD_BODIES) if bad else self._body()
                await self._turn(lambda: self._post(session, body, {422} if bad else {200, 503}))  # noqa: B023
                await asyncio.sleep(PAUSE_S)

    async def _leaver(self) -> None:
        """Opens a connection, asks, and closes it sooner or later without reading."""
        while True:
            await self._turn(self._ask_and_leave)
            await asyncio.sleep(PAUSE_S)

    async def _ask_and_leave(self) -> None:
        host, port = self._url.split("/")[2].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = self._body(new=8)
        head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nContent-Type: application/json"
        writer.write(f"{head}\r\n\r\n".encode() + body[: self._random.choice([len(body), len(body) // 2])])
        await writer.drain()
        await asyncio.sleep(self._random.choice([0, 0.001, 0.01]))
        writer.close()
        await writer.wait_closed()
        self.left += 1

    async def _bursts(self) -> None:
        """Now and then more queries at once than the queue holds."""
        while True:
            await asyncio.sleep(BURST_EVERY_S)
            await self._turn(self._burst)

    async def _burst(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            bodies = [self._body(new=BURST_QUERIES) for _ in range(BURST_REQUESTS)]
            await asyncio.gather(*(self._post(session, body, {200, 503}) for body in bodies))

    async def _post(self, session: aiohttp.ClientSession, body: bytes, expected: set[int]) -> None:
        start = time.perf_counter()
        async with session.post(self._url, data=body, headers={"Content-Type": "application/json"}) as response:
            content = await response.read()
        self.latencies_s[response.status].append(time.perf_counter() - start)
        if response.status not in expected:
            self.unexpected[f"{response.status} to {body[:80]!r}: {content[:200]!r}"] += 1
        elif response.status == 200 and len(json.loads(content)["result"]) != len(json.loads(body)["queries"]):
            self.unexpected[f"the wrong number of results to {body[:80]!r}"] += 1

    def _body(self, new: int = 0) -> bytes:
        queries = [self._new() for _ in range(new)] or [
            self._random.choice(self._repeated) if self._random.random() < 0.7 else self._new()
            for _ in range(self._random.choice([1, 1, 1, 2, 5]))
        ]
        topk = self._random.choice([None, 1, 3, 3, 10, 100])
        return json.dumps({"queries": queries, "topk": topk, "return_scores": self._random.random() < 0.5}).encode()

    def _new(self) -> str:
        return f"{self._words()} {next(self._numbers)}"

    def _words(self) -> str:
        return " ".join(self._random.choices(WORDS, k=6))


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the load goes on.")] = 10.0,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks at the server.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of the queries and their order.")] = 0,
) -> None:
    """Serves a corpus under mixed load; exits with 1 when the server grows or answers what it should not."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as (process, url):
        load, sizes = asyncio.run(_soak(console, process.pid, url, minutes * 60, every, seed))
        process.terminate()
        ended = process.wait(30)
    _report(console, load)
    faults = [*load.unexpected, *_growth(sizes)]
    if ended != 0:
        faults.append(f"the server ended with {ended} at SIGTERM")
    for fault in faults[:10]:
        console.print(f"[red]FAILED[/red] {fault}", markup=True, highlight=False)
    if not faults:
        console.print("[green]passed[/green]: nothing grew, and every answer was one to expect")
    raise typer.Exit(1 if faults else 0)


async def _soak(
    console: Console, pid: int, url: str, seconds: float, every_s: float, seed: int
) -> tuple[Load, list[Size]]:
    load, sizes = Load(url, seed), list[Size]()
    playing = asyncio.create_task(load.run())
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        await asyncio.wait([playing], timeout=every_s)
        if playing.done():
            break
        async with load.held():
            sizes.append(_size(pid))
        rss = sizes[-1].rss_bytes / 2**20
        answers = sum(map(len, load.latencies_s.values()))
        console.print(
            f"{time.monotonic() - start:5.0f} s: {rss:6.1f} MiB resident, {sizes[-1].files} files, "
            f"{sizes[-1].threads} threads, {answers:,} answers",
            highlight=False,
        )
    playing.cancel()
    await asyncio.wait([playing])
    if not playing.cancelled():
        playing.result()
    return load, sizes


@contextmanager
def _server(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process over a corpus of random words, and its URL."""
    dice = random.Random(0)
    rows = ({"id": number, "contents": "T\n" + " ".join(dice.choices(WORDS, k=60))} for number in range(PASSAGES))
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "serve-retriever",
        "--exit-with-parent",
        "--corpus_path",
        str(corpus),
    ]
    with subprocess.Popen(
        [*command, *SERVER_OPTIONS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready at" not in line:
            raise SystemExit("the server did not start; its error stands above")
        try:
            yield process, line.split()[3]
        finally:
            process.kill()


def _size(pid: int) -> Size:
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Size(int(status["VmRSS"].split()[0]) << 10, len(list((proc / "fd").iterdir())), int(status["Threads"]))


def _growth(sizes: Sequence[Size]) -> list[str]:
    """What the last third of the looks has more of than the second; the first third warms up."""
    third = len(sizes) // 3
    if not third:
        return ["too short for a verdict: look at least three times (--minutes, --every)"]
    middle, last = sizes[third : 2 * third], sizes[-third:]
    was, became = (statistics.fmean(size.rss_bytes for size in part) / 2**20 for part in (middle, last))
    grown = [] if became <= (1 + GROWTH) * was else [f"memory grew from {was:.1f} to {became:.1f} MiB"]
    for what in ("files", "threads"):
        before, after = (max(getattr(size, what) for size in part) for part in (middle, last))
        if after > before:
            grown.append(f"{what} grew from {before} to {after}")
    return grown


def _report(console: Console, load: Load) -> None:
    table = Table(title=f"Answers; {load.left:,} clients left without one", title_justify="left")
    for heading in ("status", "answers", "p50", "p99"):
        table.add_column(heading, justify="right")
    for status, latencies_s in sorted(load.latencies_s.items()):
        p50, p99 = (_percentile(latencies_s, share) * 1e3 for share in (0.5, 0.99))
        table.add_row(str(status), f"{len(latencies_s):,}", f"{p50:.1f} ms", f"{p99:.1f} ms")
    console.print(table)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    typer.run(main)
