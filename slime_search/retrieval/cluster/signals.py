"""Keeps Ray from answering SIGTERM in the server's place."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STRUCT_BYTES = 1024
"""More than any system's ``struct sigaction``."""


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """What the process does on SIGTERM is the same after the block.

    Ray's core puts a handler of its own in place, which ends the process at once, and Python can change handlers in the
    main thread alone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    action = ctypes.create_string_buffer(_STRUCT_BYTES)
    libc.sigaction(signal.SIGTERM, None, action)
    try:
        yield
    finally:
        libc.sigaction(signal.SIGTERM, action, None)
