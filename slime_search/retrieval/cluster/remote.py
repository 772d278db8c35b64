"""Encoder, index, BM25 and cross-encoder that are elsewhere, as the rest of the server knows them."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.vectors.vector_index import Neighbours
from slime_search.transport.retrying import PROCESSES
from slime_search.transport.unavailable import Unavailable

if TYPE_CHECKING:
    from slime_search.retrieval.vectors.effort import Effort

_ATTEMPTS = 3
_LOOK_S = 1.0
"""How often a call that has no answer looks whether there is still a process that could give one."""
_GONE_S = 10.0
"""How long calls wait for one to come back."""
_CALL_S = 600


def applications() -> dict[str, ApplicationStatusOverview]:
    """By name; none once the connection to Ray is closed, where Serve's own function would start another Ray."""
    return serve.status().applications if ray.is_initialized() else {}


class ReplicasUnavailable(Unavailable):
    """No process can answer for now."""

    status = "unavailable"


class Processes:
    """The processes of one application of Ray Serve, of which any may answer a call. Several threads may call.

    Args:
        handle: Serve's, of the deployment of the same name.
        application: its name, which messages name too.
        gone_for_s: tells for how long none has run.
    """

    def __init__(self, handle: Any, application: str, gone_for_s: Callable[[], float]) -> None:
        self._handle = handle
        self._application = application
        self._gone_for_s = gone_for_s
        self._counting = threading.Lock()
        self.retries = 0
        """Calls that were sent again after one had failed."""

    def call(self, method: str, *arguments: Any) -> Any:
        """The answer of one process; of another one where that dies.

        Raises:
            ReplicasUnavailable: several have died of it, or none has lived for 10 s.
            Exception: what the method raised.
        """
        return self.begin(method, *arguments)()

    def begin(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Sends a call; what it returns waits for the answer, as ``call`` does."""
        self._refuse_if_gone()
        send = partial(getattr(self._handle, method).remote, *arguments)
        return partial(self._answer, send, send())

    def _answer(self, send: Callable[[], Any], response: Any) -> Any:
        policy = PROCESSES.policy(
            stop_after_attempt(_ATTEMPTS), retry=retry_if_exception(_is_outage), before_sleep=self._count_retry
        )
        try:
            for attempt in Retrying(**policy):
                with attempt:
                    return self._wait(response if attempt.retry_state.attempt_number == 1 else send())
        except RayTaskError as error:
            raise error.cause from error
        except (RayError, RayServeException) as error:
            raise ReplicasUnavailable(
                f"{self._application}: {_ATTEMPTS} calls failed, the last with {type(error).__name__}; try again later"
            ) from error
        raise AssertionError("unreachable")

    def _count_retry(self, _state: RetryCallState) -> None:
        with self._counting:
            self.retries += 1

    def _wait(self, response: Any) -> Any:
        end = time.monotonic() + _CALL_S
        while True:
            try:
                return response.result(timeout_s=_LOOK_S)
            except TimeoutError as error:
                if isinstance(error, RayTaskError):
                    raise
            try:
                self._refuse_if_gone(at_the_latest=end)
            except ReplicasUnavailable:
                if ray.is_initialized():
                    response.cancel()
                raise

    def _refuse_if_gone(self, at_the_latest: float = math.inf) -> None:
        if self._gone_for_s() > _GONE_S or time.monotonic() > at_the_latest:
            raise ReplicasUnavailable(f"{self._application}: no process can answer; try again later")


def _is_outage(error: BaseException) -> bool:
    """Whether the process or the way to it failed, and not what it was asked to do."""
    return isinstance(error, RayError | RayServeException) and not isinstance(error, RayTaskError)


def merge(parts: Sequence[Neighbours], topk: int) -> Neighbours:
    """The ``topk`` best of all parts, best first; ties by position in the corpus, as the whole index has them.

    Args:
        parts: at least one, each with its own ``topk`` best and positions in the whole corpus.
        topk: passages a query; rows are -1 where there are fewer.
    """
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    absent = rows < 0
    last = np.iinfo(rows.dtype).max
    order = np.lexsort((np.where(absent, last, rows), np.where(absent, np.inf, -scores)))[:, :topk]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))


class RemoteEncoder:
    """An Encoder of queries alone."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.dimension: int = processes.call("dimension")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query, in order. Raises ReplicasUnavailable."""
        vectors: Vectors = self._processes.call("encode_queries", texts)
        return vectors


class RemoteIndex:
    """A VectorIndex in parts, which are searched at the same time."""

    def __init__(self, parts: Sequence[Processes]) -> None:
        self._parts = parts
        shapes = [part.call("shape") for part in parts]
        self.count = sum(count for count, _ in shapes)
        self.dimension: int = shapes[0][1]
        self.effort: Effort | None = parts[0].call("effort")

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        """The ``topk`` passages with the highest inner product with each query. Raises ReplicasUnavailable."""
        answers = [part.begin("search", queries, topk) for part in self._parts]
        return merge([answer() for answer in answers], topk)


class RemoteWords:
    """A Retriever by BM25."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """The best passages of every query. Raises ReplicasUnavailable."""
        hits: list[list[Hit]] = self._processes.call("search", queries, topk)
        return hits


class RemoteCrossEncoder:
    """A CrossEncoder."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """One score a (query, passage) pair, in order. Raises ReplicasUnavailable."""
        scores: npt.NDArray[np.float32] = self._processes.call("score", pairs)
        return scores
