"""What the service counts, in Prometheus' text format at ``/metrics``."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slime_search.tools.searcher import Finding

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
