"""Worker processes that turn pages into text, so that the event loop is not held up and no page can bring it down."""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from slime_search.tools.google.fetching import Page, Unreadable
from slime_search.tools.google.worker_process import end_with_parent, text_within_time


class TextWorkers:
    """Reads pages in processes, which are started with the first page and end with this one.

    Args:
        count: processes; None for one a core, at most four.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count or min(4, os.cpu_count() or 1)
        self._pool: ProcessPoolExecutor | None = None

    async def text_around(self, page: Page, snippet: str, max_chars: int) -> str:
        """What ``page`` says where ``snippet`` is from, at most ``max_chars`` long; "" where it does not hold it.

        Raises:
            Unreadable: the page brings the extraction down.
        """
        pool = self._running()
        arguments = (page.body, page.charset, page.plain, snippet, max_chars)
        try:
            return await asyncio.wrap_future(pool.submit(text_within_time, *arguments))
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            raise Unreadable("broke its worker") from None
        except Exception as error:  # a hostile page may break the parsers in any way, which is then counted
            raise Unreadable(f"extraction: {type(error).__name__}") from error

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # A fork would copy threads and devices of a rollout worker in the middle of their work.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, mp_context=spawn, initializer=end_with_parent)
        return self._pool
