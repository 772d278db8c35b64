"""The process: serves a library until it is told to end."""

import socket

import uvicorn

from slime_search.viewer.app import create_app
from slime_search.viewer.library import Library


def serve(library: Library, listener: socket.socket, *, host: str) -> None:
    """Serves until SIGINT or SIGTERM, which ends it with KeyboardInterrupt.

    Args:
        host: what the user called this machine.
    """
    app = create_app(library, names={host})
    config = uvicorn.Config(app, ws="none", lifespan="off", log_level="warning", access_log=False)
    # A page that is open holds a connection, and nothing is lost with it.
    config.timeout_graceful_shutdown = 1
    uvicorn.Server(config).run(sockets=[listener])
