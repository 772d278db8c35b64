"""Stops a run whose trajectories die of a service, before it trains on what is left."""

import logging
from collections import Counter, deque

from slime_search.core.trajectory import Trajectory
from slime_search.errors import TooManyFailures

logger = logging.getLogger(__name__)


class FailureMonitor:
    """Watches the last ``window`` trajectories, one rollout's worth.

    Args:
        window: trajectories a rollout.
        max_share: share of them that may fail; 1.0 never stops.
        consequence: what a failure means, for the log.
        setting: the key of the recipe's config that ``max_share`` is.
    """

    def __init__(
        self,
        *,
        window: int,
        max_share: float,
        consequence: str = "trajectory without training signal",
        setting: str = "max_failure_share",
    ) -> None:
        self._recent: deque[str | None] = deque(maxlen=max(window, 1))
        self._allowed = max_share * max(window, 1)
        self._consequence = consequence
        self._setting = setting

    def observe(self, trajectory: Trajectory) -> None:
        """Counts one finished trajectory.

        Raises:
            TooManyFailures: more than the allowed share failed; names the service.
        """
        self.count(trajectory.failed_service, trajectory.error)

    def count(self, service: str | None, error: str | None) -> None:
        """Counts one trajectory, which ``service`` failed with ``error`` unless that is None.

        Raises:
            TooManyFailures: more than the allowed share failed; names the service.
        """
        self._recent.append(service)
        if service is None:
            return
        logger.warning("%s: %s", self._consequence, error)
        failed = Counter(service for service in self._recent if service)
        if failed.total() > self._allowed:
            (worst, count), *_ = failed.most_common(1)
            message = (
                f"{failed.total()} of the last {len(self._recent)} trajectories failed, {count} of them because of the "
                f"{worst}. Last error: {error}. Check it and start again; {self._setting} in the recipe's config sets "
                "how much a run endures."
            )
            raise TooManyFailures(message, service=worst, last_error=error)
