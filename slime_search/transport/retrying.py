"""How long is waited between attempts at what may pass: longer each time, and never shorter than a server asks for."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, retry_if_exception_type
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from slime_search.errors import TransientFault


@dataclass(frozen=True, slots=True)
class Patience:
    """The first wait is up to twice ``first_s`` seconds; each further one is twice as long, up to ``longest_s``.

    Waits have a random part, so that many callers do not come back at the same moment.
    """

    first_s: float
    longest_s: float
    longest_asked_s: float
    """A server that asks for a longer wait than this gets this one."""

    def wait_s(self, fault: BaseException | None, attempts: Iterable[int]) -> float:
        """Seconds to wait after ``attempts``, counted from 0, of which the last ended in ``fault``."""
        asked_s = fault.retry_after_s if isinstance(fault, TransientFault) else None
        return max(sum(pause_s(self, attempt) for attempt in attempts), min(asked_s or 0.0, self.longest_asked_s))

    def policy(
        self,
        stop: stop_base | Callable[[RetryCallState], bool],
        *,
        wait: Callable[[RetryCallState], float] | None = None,
        retry: retry_base | None = None,
        before_sleep: Callable[[RetryCallState], object] | None = None,
    ) -> dict[str, Any]:
        """What tenacity's ``Retrying`` and ``AsyncRetrying`` take; at the end comes the last error as it is.

        Args:
            stop: when there is no further attempt.
            wait: seconds to wait; where it is left out, as ``wait_s`` says for the attempt that failed.
            retry: which errors are tried again; TransientFault where it is left out.
            before_sleep: called with the state before each wait.
        """
        return {
            "stop": stop,
            "wait": wait or self._wait_s,
            "retry": retry or retry_if_exception_type(TransientFault),
            "before_sleep": before_sleep,
            "reraise": True,
        }

    def _wait_s(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        return self.wait_s(fault, [state.attempt_number - 1])


SERVICES = Patience(first_s=0.5, longest_s=10.0, longest_asked_s=60.0)
"""For a trajectory that waits: retriever, engine, teacher."""
DOWNLOADS = Patience(first_s=1.0, longest_s=60.0, longest_asked_s=300.0)
"""For hours of download, about five minutes in all with ten attempts."""
PROCESSES = Patience(first_s=0.1, longest_s=1.0, longest_asked_s=1.0)
"""For processes of ours, which others stand in for."""


def pause_s(patience: Patience, attempt: int) -> float:
    """Seconds to wait when an attempt failed that had so many before it."""
    return min(patience.first_s * 2.0**attempt, patience.longest_s) + random.uniform(0, patience.first_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's ``Retry-After`` asks to wait; None without one that is a number of them."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
