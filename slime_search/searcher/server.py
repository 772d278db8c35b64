"""The process: opens the port, waits for engine and search, serves, and ends when it is told to."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from slime_search.retrieval.draining import Drain
from slime_search.retrieval.listening import (
    SIGNALS,
    allow_many_connections,
    draining_server,
    open_listener,
    stop_at_end_of_stdin,
    url_of,
)
from slime_search.searcher.app import create_app
from slime_search.searcher.metrics import Metrics
from slime_search.searcher.searcher import Searcher
from slime_search.searcher.sessions import Sessions
from slime_search.searcher.warm_up import WarmUp
from slime_search.service import close_sessions


def serve(
    searcher: Searcher,
    warm_up: WarmUp,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    at_once: int = 256,
    queue_size: int = 4_096,
    exit_with_parent: bool = False,
) -> None:
    """Serves until SIGTERM, SIGINT or, with ``exit_with_parent``, the end of stdin. Call it from the main thread.

    A signal lets the questions under way be answered and refuses new ones; a second signal gives them 5 seconds. One
    line with the URL goes to stdout when the service is ready.

    Raises:
        ListenError: the address or port can't be had.
        SlimeSearchError: engine or search will never answer; the service has ended by then.
    """
    allow_many_connections()
    listener = open_listener(host, port)
    url = url_of(listener)
    drain = Drain()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm_up())
        yield
        warming.cancel()
        with suppress(asyncio.CancelledError):
            await warming
        await close_sessions()

    async def _warm_up() -> None:
        await warm_up.run()
        if warm_up.error is not None:
            server.should_exit = True
            return
        sys.stdout.write(f"searcher ready at {url}\n")
        sys.stdout.flush()

    metrics = Metrics()
    sessions = Sessions(searcher, at_once=at_once, queue_size=queue_size, metrics=metrics)
    server = draining_server(create_app(sessions, warm_up, drain, metrics, lifespan), drain, lifespan=True)
    # A signal waits until there is a loop that can end in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if exit_with_parent:
        threading.Thread(target=stop_at_end_of_stdin, args=(server,), name="parent-watch", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if warm_up.error is not None:
        raise warm_up.error
