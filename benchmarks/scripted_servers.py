"""An engine and a retriever that wait as long as they are told and answer by script, each in a process of its own."""

import asyncio
import itertools
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from aiohttp import web

from benchmarks.scenario import Script

BACKLOG = 4_096
"""All trajectories connect at once; a shorter queue drops connections, and the kernel retries them a second later."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from the last byte of a request to the first of its answer."""

    engine_s: float
    search_s: float


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of the engine's routes and the retriever's ``/retrieve``."""

    engine: int
    retriever: int


@contextmanager
def scripted_servers(script: Script, latencies: Latencies) -> Iterator[Ports]:
    """Starts both servers; they end with the block."""
    # A forked child would inherit the parent's event loop and client sockets.
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe(duplex=False) for _ in range(2)]
    targets = (_serve_engine, _serve_retriever)
    processes = [
        spawn.Process(target=target, args=(sender, script, latencies), daemon=True)
        for target, (_, sender) in zip(targets, pipes, strict=True)
    ]
    try:
        for process, (_, sender) in zip(processes, pipes, strict=True):
            process.start()
            # The child holds the only sending end, so its death reads as EOFError.
            sender.close()
        engine, retriever = (receiver.recv() for receiver, _ in pipes)
        yield Ports(engine, retriever)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def _serve_engine(announce: Connection, script: Script, latencies: Latencies) -> None:
    async def generate(request: web.Request) -> web.Response:
        body = await request.read()
        turn = sum(body.count(end) for end in script.observation_ends)
        await asyncio.sleep(latencies.engine_s)
        return web.Response(body=script.turns[turn], content_type="application/json")

    _serve(announce, web.post("/generate", generate), web.post("/v1/chat/completions", generate))


def _serve_retriever(announce: Connection, script: Script, latencies: Latencies) -> None:
    requests = itertools.count()

    async def retrieve(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(latencies.search_s)
        return web.Response(body=script.search_result(next(requests)), content_type="application/json")

    _serve(announce, web.post("/retrieve", retrieve))


def _serve(announce: Connection, *routes: web.RouteDef) -> None:
    app = web.Application()
    app.add_routes(routes)
    app.on_startup.append(_end_with_parent)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        announce.send(listener.getsockname()[1])
        web.run_app(app, sock=listener, backlog=BACKLOG, print=None, access_log=None, shutdown_timeout=0)


async def _end_with_parent(app: web.Application) -> None:
    """A parent that is killed can't end its servers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    asyncio.get_running_loop().add_reader(parent.sentinel, os.kill, os.getpid(), signal.SIGTERM)
