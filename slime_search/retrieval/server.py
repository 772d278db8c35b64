"""The process: opens the port, loads in the background, serves, and ends when it is told to."""

import signal
import sys
import threading
from collections.abc import Callable

from rich.progress import Progress

from slime_search.retrieval.app import create_app
from slime_search.retrieval.collection import Collection
from slime_search.retrieval.loading import Loading, ServingOptions
from slime_search.transport.middleware import Drain
from slime_search.transport.serving import (
    SIGNALS,
    ListenError,
    allow_many_connections,
    draining_server,
    open_listener,
    stop_at_end_of_stdin,
    url_of,
)

__all__ = ["ListenError", "open_listener", "serve"]


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
    allow_many_connections()
    listener = open_listener(host, port)
    url = url_of(listener)
    loading = Loading(load)
    drain = Drain()
    server = draining_server(create_app(loading, drain, options), drain, lifespan=False)

    def announce_or_stop() -> None:
        if loading.error is not None:
            server.should_exit = True
        else:
            sys.stdout.write(f"retriever ready at {url} ({len(loading.collection.corpus):,} passages)\n")
            sys.stdout.flush()

    # A signal waits until there is a loop that can end in order; while it is made, it would leave half of one. Threads
    # inherit the mask, and one that did not would take the signal in the main thread's place.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    loading.start(announce_or_stop)
    if exit_with_parent:
        threading.Thread(target=stop_at_end_of_stdin, args=(server,), name="parent-watch", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        loading.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if loading.error is not None:
        raise loading.error
