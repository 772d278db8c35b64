"""What the server counts, in Prometheus' text format at ``/metrics``."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slime_search.retrieval.batcher import MAX_BATCH_QUERIES
from slime_search.retrieval.collection import Collection

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "slime_search_retriever"
_LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH_SIZES = tuple(2**power for power in range(MAX_BATCH_QUERIES.bit_length()))


class Metrics:
    """The metrics of one application, in a registry of their own.

    Args:
        collection: what is served, once it is loaded.
    """

    def __init__(self, collection: Callable[[], Collection | None] = lambda: None) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(CollectionMetrics(collection))
        self.requests = Counter(
            f"{_PREFIX}_requests", "Answered /retrieve requests.", ["status"], registry=self._registry
        )
        self.latency = Histogram(
            f"{_PREFIX}_request_seconds",
            "Time from a /retrieve request to the end of its answer.",
            buckets=_LATENCIES_S,
            registry=self._registry,
        )
        self.queries = Counter(f"{_PREFIX}_queries", "Queries of valid requests.", registry=self._registry)
        self.cache_hits = Counter(
            f"{_PREFIX}_cache_hits", "Queries answered from the result cache.", registry=self._registry
        )
        self.batch_queries = Histogram(
            f"{_PREFIX}_batch_queries", "Queries a search.", buckets=_BATCH_SIZES, registry=self._registry
        )
        self.queued_queries = Gauge(
            f"{_PREFIX}_queued_queries", "Queries that wait for a search.", registry=self._registry
        )

    def render(self) -> bytes:
        """All metrics, as CONTENT_TYPE says."""
        return generate_latest(self._registry)


class CollectionMetrics(Collector):
    """What the collection knows of itself, asked for whenever the metrics are: its index, its processes."""

    def __init__(self, collection: Callable[[], Collection | None]) -> None:
        self._collection = collection

    def collect(self) -> Iterator[Metric]:
        collection = self._collection()
        recall = GaugeMetricFamily(
            f"{_PREFIX}_index_recall",
            "Of the 10 best passages, the share that an approximate index finds, measured at its start.",
            labels=["setting", "value"],
        )
        replicas = GaugeMetricFamily(f"{_PREFIX}_replicas", "Processes that can answer.", labels=["kind"])
        lost = CounterMetricFamily(f"{_PREFIX}_replicas_lost", "Processes that died.", labels=["kind"])
        retries = CounterMetricFamily(f"{_PREFIX}_replica_retries", "Calls that were sent again.", labels=["kind"])
        if collection is not None:
            if collection.effort is not None and collection.effort.recall is not None:
                setting = [collection.effort.setting, str(collection.effort.value)]
                recall.add_metric(setting, collection.effort.recall)
            for kind, facts in collection.processes().items():
                replicas.add_metric([kind], facts.running)
                lost.add_metric([kind], facts.lost)
                retries.add_metric([kind], facts.retries)
        yield from (recall, replicas, lost, retries)


class RequestMetrics:
    """ASGI middleware that counts and times the requests to ``/retrieve``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) != "/retrieve":
            await self._app(scope, receive, send)
            return
        # Where the application ends without an answer, the server sends this one.
        status = 500

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive, watched_send)
        finally:
            self._metrics.latency.observe(time.perf_counter() - start)
            self._metrics.requests.labels(status).inc()
