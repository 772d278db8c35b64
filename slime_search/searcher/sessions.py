"""Questions under way: so many at a time, and a bounded number that wait."""

import asyncio
from collections.abc import Sequence
from typing import Any

from slime_search.errors import SlimeSearchError
from slime_search.retrieval.unavailable import QueueFull
from slime_search.searcher.metrics import Metrics
from slime_search.searcher.protocol import failed, found
from slime_search.searcher.searcher import Searcher
from slime_search.tokens import well_formed


class Sessions:
    """Runs a Searcher's sessions.

    Args:
        searcher: answers each question.
        at_once: sessions at the same time.
        queue_size: questions that may wait for one.
        metrics: what is counted.
    """

    def __init__(self, searcher: Searcher, *, at_once: int, queue_size: int, metrics: Metrics) -> None:
        self._searcher = searcher
        self._running = asyncio.Semaphore(at_once)
        self._room = at_once + queue_size
        self._metrics = metrics
        self._accepted = 0

    async def find_all(self, questions: Sequence[str], max_turns: int | None) -> list[dict[str, Any]]:
        """A row for every question, in order: what was found, or which service failed it.

        Raises:
            QueueFull: more questions would have to wait than may.
        """
        if self._accepted + len(questions) > self._room:
            raise QueueFull(
                f"{self._accepted} questions are under way or wait, and {self._room} may: try again later, or start "
                "the service with a larger --queue-size"
            )
        self._accepted += len(questions)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._find(well_formed(question), max_turns)) for question in questions]
        finally:
            self._accepted -= len(questions)
        return [task.result() for task in tasks]

    async def _find(self, question: str, max_turns: int | None) -> dict[str, Any]:
        with self._metrics.waiting.track_inprogress():
            await self._running.acquire()
        try:
            with self._metrics.running.track_inprogress():
                finding = await self._searcher.find(question, max_turns=max_turns)
        except SlimeSearchError as error:
            row = failed(question, error)
            self._metrics.count_failure(row["error"]["service"])
            return row
        finally:
            self._running.release()
        self._metrics.count(finding)
        return found(question, finding)
