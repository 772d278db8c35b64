"""What tests of real processes share: a port for them, waiting for what they do, and finding those that are left."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients and to servers that ask for any port."""


def free_port() -> int:
    """A loopback port for a server that can't be told to take any."""
    for port in SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports are taken")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], limit_s: float = 150) -> None:
    """Returns once ``condition()`` is true; another process makes it so, so it is asked again and again."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def command_lines(folder: Path) -> dict[int, str]:
    """The other processes that name ``folder`` in their command line, as all do that work in it; by their ids."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(entry.name) != os.getpid():
            found[int(entry.name)] = line
    return found
