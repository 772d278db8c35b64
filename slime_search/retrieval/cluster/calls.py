"""Calls that outlive the process that was to answer them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from slime_search.retrieval.cluster.status import applications
from slime_search.retrieval.unavailable import Unavailable

_ATTEMPTS = 3
_LOOK_S = 10
"""How often a call that has no answer looks whether there is still a process that could give one."""
_CALL_S = 600


class ReplicasUnavailable(Unavailable):
    """No process can answer for now."""

    status = "unavailable"


class Replicas:
    """The processes of one application of Ray Serve, of which any may answer a call. Several threads may call.

    Args:
        handle: Serve's, of the deployment of the same name.
        application: its name, which messages name too.
    """

    def __init__(self, handle: Any, application: str) -> None:
        self._handle = handle
        self._application = application

    def call(self, method: str, *arguments: Any) -> Any:
        """The answer of one process; of another one where that dies.

        Raises:
            ReplicasUnavailable: several have died of it, or none lives.
            Exception: what the method raised.
        """
        return self.begin(method, *arguments)()

    def begin(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Sends a call; what it returns waits for the answer, as ``call`` does."""
        send = partial(getattr(self._handle, method).remote, *arguments)
        return partial(self._answer, send, send())

    def _answer(self, send: Callable[[], Any], response: Any) -> Any:
        attempts = Retrying(
            retry=retry_if_exception(_is_outage),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=1),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._wait(response if attempt.retry_state.attempt_number == 1 else send())
        except RayTaskError as error:
            raise error.cause from error
        except (RayError, RayServeException) as error:
            raise ReplicasUnavailable(
                f"{self._application}: {_ATTEMPTS} calls failed, the last with {type(error).__name__}; try again later"
            ) from error
        raise AssertionError("unreachable")

    def _wait(self, response: Any) -> Any:
        end = time.monotonic() + _CALL_S
        while True:
            try:
                return response.result(timeout_s=_LOOK_S)
            except TimeoutError as error:
                if isinstance(error, RayTaskError):
                    raise
            if time.monotonic() > end or not self._lives():
                if ray.is_initialized():
                    response.cancel()
                raise ReplicasUnavailable(f"{self._application}: no process can answer; try again later")

    def _lives(self) -> bool:
        application = applications().get(self._application)
        states = [deployment.replica_states for deployment in application.deployments.values()] if application else []
        return any(state.get("RUNNING") for state in states)


def _is_outage(error: BaseException) -> bool:
    """Whether the process or the way to it failed, and not what it was asked to do."""
    return isinstance(error, RayError | RayServeException) and not isinstance(error, RayTaskError)
