"""How long to try again."""

import logging

from tenacity import RetryCallState
from tenacity.wait import wait_exponential, wait_random

logger = logging.getLogger(__name__)

ATTEMPTS = 10
LONGEST_WAIT_S = 60.0

_backoff = wait_exponential(multiplier=1, max=LONGEST_WAIT_S) + wait_random(0, 1)


class PassingFault(Exception):
    """One attempt failed; another may not."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def wait_s(state: RetryCallState) -> float:
    """Longer from attempt to attempt, about five minutes in all, and never shorter than the server asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, PassingFault) else 0.0
    return max(_backoff(state), min(asked_s, 5 * LONGEST_WAIT_S))


def tell(state: RetryCallState) -> None:
    """Says that an attempt failed and when the next one is, as nobody should have to guess why nothing happens."""
    error = state.outcome.exception() if state.outcome else None
    pause_s = state.next_action.sleep if state.next_action else 0.0
    logger.warning("%s (attempt %d of %d; next in %.0f s)", error, state.attempt_number, ATTEMPTS, pause_s)
