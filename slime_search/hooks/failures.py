"""Stops a run whose trajectories die of a service, before it trains on what is left."""

import logging
from collections import Counter, deque

from slime_search.errors import TooManyFailures
from slime_search.trajectory import Trajectory

logger = logging.getLogger(__name__)


class FailureMonitor:
    """Watches the last ``window`` trajectories, one rollout's worth.

    Args:
        window: trajectories a rollout.
        max_share: share of them that may fail; 1.0 never stops.
    """

    def __init__(self, *, window: int, max_share: float) -> None:
        self._recent: deque[str | None] = deque(maxlen=max(window, 1))
        self._allowed = max_share * max(window, 1)

    def observe(self, trajectory: Trajectory) -> None:
        """Counts one finished trajectory.

        Raises:
            TooManyFailures: more than the allowed share failed; names the service.
        """
        self._recent.append(trajectory.failed_service)
        if trajectory.failed_service is None:
            return
        logger.warning("trajectory without training signal: %s", trajectory.error)
        failed = Counter(service for service in self._recent if service)
        if failed.total() > self._allowed:
            (service, count), *_ = failed.most_common(1)
            raise TooManyFailures(
                f"{failed.total()} of the last {len(self._recent)} trajectories failed, {count} of them because of the "
                f"{service}. Last error: {trajectory.error}. Check that service and start again; max_failure_share in "
                "the recipe's config sets how much a run endures."
            )
