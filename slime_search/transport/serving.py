"""What a server process needs beside its application: its port, its end, its connections."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from slime_search.errors import SlimeSearchError
from slime_search.transport.middleware import Drain

# Longer than the keep-alive of common clients (aiohttp: 15 s), so that the server does not close a connection just as
# a client uses it again.
_KEEP_ALIVE_S = 75
_SHUTDOWN_GRACE_S = 5
_OPEN_FILES = 2**15
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


class ListenError(SlimeSearchError):
    """The server can't listen at its address; the message says why and what to do."""


class DrainingServer(uvicorn.Server):
    """Stays open at the first signal until the requests in flight are answered."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.begun:
            super().handle_exit(sig, frame)
        else:
            self._drain.begin(partial(super().handle_exit, sig, frame))


def draining_server(app: Any, drain: Drain, *, lifespan: bool) -> DrainingServer:
    """The server of an ASGI application, which may have a ``lifespan`` of its own."""
    return DrainingServer(
        uvicorn.Config(
            app,
            lifespan="on" if lifespan else "off",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        ),
        drain,
    )


def allow_many_connections() -> None:
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


def url_of(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    """For a thread of its own, in a process whose parent holds stdin as a pipe."""
    # os.read rather than sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    server.should_exit = True
