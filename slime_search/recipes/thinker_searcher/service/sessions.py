"""Questions under way: so many at a time, and a bounded number that wait."""

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slime_search.core.tokens import well_formed
from slime_search.errors import SlimeSearchError
from slime_search.recipes.thinker_searcher.client import Finding
from slime_search.recipes.thinker_searcher.searcher import Searcher
from slime_search.recipes.thinker_searcher.service.protocol import failed, found
from slime_search.transport.unavailable import QueueFull

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "slime_search_searcher"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(f"{_PREFIX}_requests", "Answered /search requests.", ["status"], registry=registry)
        self.running = Gauge(f"{_PREFIX}_sessions", "Questions under way.", registry=registry)
        self.waiting = Gauge(f"{_PREFIX}_waiting", "Questions that wait for a session.", registry=registry)
        self._questions = Counter(
            f"{_PREFIX}_questions", "Questions by how their session ended.", ["ending"], registry=registry
        )
        self._failures = Counter(
            f"{_PREFIX}_failures", "Questions that a service failed, by the service.", ["service"], registry=registry
        )
        self._seconds = Histogram(
            f"{_PREFIX}_seconds",
            "Seconds of a session by stage: total, model, search.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._turns = Histogram(
            f"{_PREFIX}_turns", "The Searcher's turns a question.", buckets=range(1, 17), registry=registry
        )

    def count(self, finding: Finding) -> None:
        """One question that no service failed."""
        self._questions.labels(finding.ending).inc()
        self._turns.observe(len(finding.turns))
        for stage, seconds in finding.seconds.items():
            self._seconds.labels(stage).observe(seconds)

    def count_failure(self, service: str) -> None:
        """One question that this service failed."""
        self._questions.labels("failed").inc()
        self._failures.labels(service).inc()

    def render(self) -> bytes:
        """All metrics, as CONTENT_TYPE says."""
        return generate_latest(self._registry)


class Sessions:
    """Runs a Searcher's sessions.

    Args:
        searcher: answers each question.
        concurrency: sessions at the same time.
        queue_size: questions that may wait for one.
        metrics: what is counted.
    """

    def __init__(self, searcher: Searcher, *, concurrency: int, queue_size: int, metrics: Metrics) -> None:
        self._searcher = searcher
        self._running = asyncio.Semaphore(concurrency)
        self._room = concurrency + queue_size
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
