"""The floor under any client on aiohttp: the rollout's requests, sent and read by nothing but aiohttp and orjson."""

import asyncio
import gc
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from benchmarks.scenario import ENGINE_CALLS, PROMPT_TOKENS, Script
from benchmarks.scripted_servers import Ports

OBSERVATION_TOKENS = 450


@dataclass(frozen=True, slots=True)
class Round:
    """One batch of trajectories: seconds of wall time, of this process's CPU, and the mean response in tokens."""

    wall_s: float
    cpu_s: float
    response_tokens: float


async def timed(trajectories: Iterable[Coroutine[Any, Any, Any]]) -> tuple[float, float]:
    """Runs them at once; seconds of wall time and of this process's CPU."""
    gc.collect()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*trajectories)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


async def play_bare(script: Script, ports: Ports, trajectories: int) -> Round:
    """The requests of as many trajectories, with bodies of about the same size, prepared beforehand."""
    engine, retriever = f"http://127.0.0.1:{ports.engine}/generate", f"http://127.0.0.1:{ports.retriever}/retrieve"
    observation = list(range(1_000, 1_000 + OBSERVATION_TOKENS))
    bodies = [
        orjson.dumps({"input_ids": [*range(1_000, 1_000 + PROMPT_TOKENS), *observation * searches]})
        + script.observation_ends[0] * searches
        for searches in range(ENGINE_CALLS)
    ]

    async def post(url: str, body: bytes) -> None:
        async with session.post(url, data=body) as response:
            orjson.loads(await response.read())

    async def trajectory() -> None:
        await post(engine, bodies[0])
        for body in bodies[1:]:
            await post(retriever, b'{"queries": ["x"]}')
            await post(engine, body)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=trajectories)) as session:
        wall_s, cpu_s = await timed(trajectory() for _ in range(trajectories))
    return Round(wall_s, cpu_s, 0.0)
