"""Clients that each ask the next question as soon as the last one is answered."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import orjson


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of clients saw."""

    queries_per_s: float
    latencies_s: list[float]

    def quantile_s(self, q: float) -> float:
        """The latency that a share ``q`` of the queries stays under."""
        return float(np.quantile(self.latencies_s, q))


async def ask(url: str, questions: Sequence[str], *, clients: int, topk: int = 3) -> Load:
    """Asks every question once, one a request, with ``clients`` at a time, each on a connection of its own.

    The requests are written by hand: the clients share the cores with the server, and an HTTP library would take as
    much of them as the server's HTTP does.

    Raises:
        RuntimeError: an answer is not 200.
    """
    latencies_s: list[float] = []
    address = urlsplit(url)
    waiting = iter(questions)

    async def client(waiting: Iterator[str]) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for question in waiting:
            body = orjson.dumps({"queries": [question], "topk": topk, "return_scores": True})
            start = time.perf_counter()
            writer.write(_HEAD % (address.netloc.encode(), len(body)) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            answer = await reader.readexactly(int(_LENGTH.search(head)[1]))  # type: ignore[index]
            latencies_s.append(time.perf_counter() - start)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{url} answered {head[:12]!r}: {answer[:300]!r}")
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client(waiting) for _ in range(clients)))
    return Load(len(questions) / (time.perf_counter() - start), latencies_s)


_HEAD = b"POST /retrieve HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def top_ids(url: str, questions: Sequence[str], *, topk: int = 3) -> list[list[str]]:
    """The ids of the passages that each question finds, best first."""
    async with aiohttp.ClientSession() as session:
        body = {"queries": list(questions), "topk": topk, "return_scores": False}
        async with session.post(url, json=body) as response:
            return [[row["id"] for row in rows] for rows in (await response.json())["result"]]
