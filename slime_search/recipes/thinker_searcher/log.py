"""What Thinkers do, for whoever watches: every turn of it, or a line now and then."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slime_search.core.tool import Tool, ToolResult
from slime_search.core.trajectory import Trajectory
from slime_search.errors import ServiceError

logger = logging.getLogger(__name__)

SUMMARY_EVERY_S = 60.0
_SHOWN_CHARS = 300


class ThinkerLog:
    """The log of one run.

    Args:
        max_turns: questions that a Thinker may delegate.
        every_turn: log each turn at INFO. Else turns are logged at DEBUG, and a summary at INFO, once a minute at
            most.
    """

    def __init__(self, *, max_turns: int, every_turn: bool) -> None:
        self._max_turns = max_turns
        self._level = logging.INFO if every_turn else logging.DEBUG
        self._summarised = not every_turn
        self._active = 0
        self._counts: Counter[str] = Counter()
        self._since = time.monotonic()

    @contextmanager
    def thinking(self, number: Any, trajectory: Trajectory) -> Iterator[None]:
        """Around one Thinker's work; logs how it ended."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
        how = f"answers {_shown(trajectory.answer)}" if trajectory.answer is not None else f"ended {trajectory.ending}"
        self._log("Thinker %s %s", number, how)
        self._summarise()

    def watched(self, number: Any, searcher: Tool, trajectory: Trajectory) -> Tool:
        """``searcher``, which logs what it is asked and what comes back."""

        async def ask(query: str) -> ToolResult:
            turn = trajectory.tool_turns + 1
            self._counts["delegated"] += 1
            self._log(
                "Thinker %s, turn %d of %d (%d active), asks %s",
                *(number, turn, self._max_turns, self._active, _shown(query)),
            )
            start = time.monotonic()
            try:
                result = await searcher(query)
            except ServiceError as error:
                self._counts["failed"] += 1
                self._log("Thinker %s gets nothing: %s", number, error)
                raise
            self._came_back(number, result, time.monotonic() - start)
            return result

        return ask

    def _came_back(self, number: Any, result: ToolResult, seconds: float) -> None:
        answered = result.details["answer"] is not None
        self._counts["answered" if answered else "left open"] += 1
        self._log(
            "Thinker %s reads after %.1f s, %d turns and %d searches of the Searcher: %s",
            *(number, seconds, len(result.details["turns"]), len(result.details["queries"])),
            _shown(" ".join(result.blocks)),
        )

    def _log(self, message: str, *values: object) -> None:
        logger.log(self._level, message, *values)

    def _summarise(self) -> None:
        seconds = time.monotonic() - self._since
        if not self._summarised or seconds < SUMMARY_EVERY_S:
            return
        counts = ", ".join(f"{self._counts[what]} {what}" for what in ("delegated", "answered", "left open", "failed"))
        logger.info("%d Thinkers active; in the last %.0f s %s", self._active, seconds, counts)
        self._counts.clear()
        self._since = time.monotonic()


def _shown(text: str | None) -> str:
    """On one line, and not too much of it."""
    line = " ".join((text or "").split())
    return repr(line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}…")
