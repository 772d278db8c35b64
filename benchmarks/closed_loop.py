"""Clients that each ask the next question as soon as the last one is answered."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    """Asks every question once, one a request, with ``clients`` at a time. Raises on any other answer than 200."""
    latencies_s: list[float] = []
    waiting = iter(questions)

    async def client(session: aiohttp.ClientSession, waiting: Iterator[str]) -> None:
        for question in waiting:
            body = orjson.dumps({"queries": [question], "topk": topk, "return_scores": True})
            start = time.perf_counter()
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                answer = await response.read()
            latencies_s.append(time.perf_counter() - start)
            if response.status != 200:
                raise RuntimeError(f"{url} answered {response.status}: {answer[:300]!r}")

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients), timeout=timeout) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session, waiting) for _ in range(clients)))
        return Load(len(questions) / (time.perf_counter() - start), latencies_s)


async def top_ids(url: str, questions: Sequence[str], *, topk: int = 3) -> list[list[str]]:
    """The ids of the passages that each question finds, best first."""
    async with aiohttp.ClientSession() as session:
        body = {"queries": list(questions), "topk": topk, "return_scores": False}
        async with session.post(url, json=body) as response:
            return [[row["id"] for row in rows] for rows in (await response.json())["result"]]
