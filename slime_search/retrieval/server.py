"""The process: opens the port, loads in the background, serves, and ends when it is told to."""

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from rich.progress import Progress

from slime_search.retrieval.app import create_app
from slime_search.retrieval.collection import Collection
from slime_search.retrieval.draining import Drain
from slime_search.retrieval.loading import Loading
from slime_search.retrieval.options import ServingOptions

# Longer than the keep-alive of common clients (aiohttp: 15 s), so that the server does not close a connection just as
# a client uses it again.
_KEEP_ALIVE_S = 75
_SHUTDOWN_GRACE_S = 5
_OPEN_FILES = 2**15
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


class ListenError(Exception):
    """The server can't listen where it is told to; the message says why and what to do."""


class _DrainingServer(uvicorn.Server):
    """Stays open at the first signal until the requests in flight are answered."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.begun:
            super().handle_exit(sig, frame)
        else:
            self._drain.begin(partial(super().handle_exit, sig, frame))


def serve(
    load: Callable[[Progress], Collection],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    options: ServingOptions = ServingOptions(),  # noqa: B008 -- frozen
    exit_with_parent: bool = False,
) -> None:
    """Serves until SIGTERM, SIGINT or, with ``exit_with_parent``, the end of stdin. Call it from the main thread.

    A signal lets the requests in flight be answered and refuses new ones; a second signal gives them 5 seconds.

    The port is open before ``load`` starts. One line with the URL goes to stdout when the server is ready; with port 0
    that line names the free port that was chosen.

    Raises:
        ListenError: the address or port can't be had.
        Exception: whatever ``load`` raised; the server has ended by then.
    """
    _allow_many_connections()
    listener = open_listener(host, port)
    url = _url(listener)
    loading = Loading(load)
    drain = Drain()
    server = _DrainingServer(
        uvicorn.Config(
            create_app(loading, drain, options),
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        ),
        drain,
    )

    def announce_or_stop() -> None:
        if loading.error is not None:
            server.should_exit = True
        else:
            sys.stdout.write(f"retriever ready at {url} ({len(loading.collection.corpus):,} passages)\n")
            sys.stdout.flush()

    # A signal waits until there is a loop that can end in order; while it is made, it would leave half of one. Threads
    # inherit the mask, and one that did not would take the signal in the main thread's place.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    loading.start(announce_or_stop)
    if exit_with_parent:
        threading.Thread(target=_stop_at_end_of_stdin, args=(server,), name="parent-watch", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        loading.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if loading.error is not None:
        raise loading.error


def _allow_many_connections() -> None:
    """Each is an open file, and many systems allow a process 1,024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(
            f"can't listen: {error.strerror}; choose another --port (0 takes any free one) or another --host"
        ) from error
    # Accepted connections inherit this; asyncio does not set it on sockets that it did not open itself, and an answer
    # would wait 40 ms for a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    # os.read rather than sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    server.should_exit = True
