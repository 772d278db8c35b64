"""How many processes of each application run, looked at every second: what readiness and ``/metrics`` tell."""

import threading
import time
from collections.abc import Mapping

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from slime_search.retrieval.cluster.remote import ReplicasUnavailable, applications
from slime_search.retrieval.collection import ProcessFacts

LOOK_S = 1.0
STALE_S = 15.0
"""What was not looked at for so long is not known any more."""


class Watch:
    """Looks in a daemon thread from ``start`` to ``stop``.

    Args:
        names: what each application does ("encoder"), and what Ray Serve calls it.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._running = dict.fromkeys(names, 0)
        self._lost = dict.fromkeys(names, 0)
        self._seen_at = dict.fromkeys(names, time.monotonic())
        """When each last ran."""
        self._looked_at = time.monotonic()
        self._ended = threading.Event()

    def start(self) -> None:
        self._look()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def check(self) -> None:
        """Raises ReplicasUnavailable where something has no process that could answer."""
        gone = [name for name, runs in self._running.items() if not runs]
        if gone:
            raise ReplicasUnavailable(f"{', '.join(gone)}: no process can answer; try again later")
        if time.monotonic() - self._looked_at > STALE_S:
            raise ReplicasUnavailable("Ray Serve does not tell what runs; try again later")

    def gone_for_s(self, name: str) -> float:
        """Seconds since a process of it ran; 0 where one does."""
        return 0.0 if self._running[name] else time.monotonic() - self._seen_at[name]

    def facts(self, retries: Mapping[str, int]) -> dict[str, ProcessFacts]:
        """By what they do; ``retries`` are the calls that were sent again."""
        return {name: ProcessFacts(self._running[name], self._lost[name], retries[name]) for name in self._names}

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        try:
            found = applications()
        except (RayError, RayServeException, ConnectionError):
            found = {}
        self._looked_at = time.monotonic()
        for name, application in self._names.items():
            overview = found.get(application)
            runs = running(overview) if overview else 0
            if runs < self._running[name] and not (overview and _shrinks(overview)):
                self._lost[name] += self._running[name] - runs
            self._running[name] = runs
            if runs:
                self._seen_at[name] = self._looked_at


def running(application: ApplicationStatusOverview) -> int:
    """How many processes of it can answer."""
    return sum(deployment.replica_states.get("RUNNING", 0) for deployment in application.deployments.values())


def _shrinks(application: ApplicationStatusOverview) -> bool:
    """Whether processes are ended on purpose."""
    return any(deployment.status == "DOWNSCALING" for deployment in application.deployments.values())
