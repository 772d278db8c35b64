"""What runs in a worker process. It imports little, as each worker starts from nothing."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from typing import NoReturn

_SECONDS_A_PAGE = 10.0


def end_with_parent() -> None:
    """Ends this process with its parent, even if that is killed; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def text_within_time(body: bytes, charset: str | None, plain: bool, snippet: str, max_chars: int) -> str:
    """``text.text_around``. Raises TimeoutError when it takes too long."""
    from slime_search.tools.google.text import text_around

    signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS_A_PAGE)
    try:
        return text_around(body, charset, plain, snippet, max_chars)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_slow(number: int, frame: object) -> NoReturn:
    raise TimeoutError
