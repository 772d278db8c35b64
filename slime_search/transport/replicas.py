"""Servers that answer alike: the load is shared among those that work."""

import math
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from slime_search.errors import ServiceRejected, TransientFault
from slime_search.transport.client import ServiceClient
from slime_search.transport.per_loop import PerLoop
from slime_search.transport.retrying import SERVICES

T = TypeVar("T")

COOL_DOWN_S = 5.0
"""How long a server is left alone after a fault, unless it asks for another time."""


@dataclass(slots=True, eq=False)
class Replica:
    """One server, as one event loop knows it."""

    url: str
    in_flight: int = 0
    suspect: bool = False
    """Its last answer was a fault."""
    back_at: float = 0.0
    """Until then a suspect is left alone."""
    asked: bool = False
    """Whether ``back_at`` is what the server asked for."""

    def is_left_alone(self, now: float) -> bool:
        return self.suspect and now < self.back_at

    def load(self) -> float:
        """The least is chosen. A suspect that is back gets one request; more only where there is no other server."""
        return math.inf if self.suspect and self.in_flight else self.in_flight


class Pool:
    """Which of several servers a request goes to. ``now`` is a monotonic time in seconds."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.replicas = [Replica(url) for url in urls]
        """Those that were not chosen for the longest time first."""

    def choose(self, now: float, tried: Container[Replica] = ()) -> Replica | None:
        """The least loaded server that is not left alone and was not tried.

        Where there is none and nothing was tried, the one that is back the soonest; after a try, None.
        """
        left = (replica for replica in self.replicas if not replica.is_left_alone(now) and replica not in tried)
        chosen = min(left, key=Replica.load, default=None)
        if chosen is None and not tried:
            chosen = min(self.replicas, key=lambda replica: replica.back_at)
        if chosen is not None:
            self.replicas.remove(chosen)
            self.replicas.append(chosen)
        return chosen

    def failed(self, replica: Replica, now: float, asked_s: float | None) -> None:
        """Puts a server aside, for ``asked_s`` where it asked for that."""
        left_alone_s = COOL_DOWN_S if asked_s is None else min(asked_s, SERVICES.longest_asked_s)
        replica.suspect, replica.asked, replica.back_at = True, asked_s is not None, now + left_alone_s

    def answered(self, replica: Replica, now: float) -> None:
        """Takes a server back, unless it asked to be left alone for longer."""
        if replica.suspect and not (replica.asked and now < replica.back_at):
            replica.suspect = False

    def asked_s(self, now: float) -> float | None:
        """How long the server that is back the soonest asked to be left alone, if it did."""
        soonest = min(self.replicas, key=lambda replica: replica.back_at)
        return soonest.back_at - now if soonest.asked else None


class Replicas:
    """Requests to one service that several servers offer.

    A request goes to the server with the fewest in flight. Where that fails in a way that may pass, the server is left
    alone for a while and the request goes to the next one at once. Only when none is left, the client waits and tries
    again, as it does with a single server.

    Args:
        client: sends, and retries when no server is left.
        urls: where the servers answer, at least one.
    """

    def __init__(self, client: ServiceClient, urls: Iterable[str]) -> None:
        self._client = client
        self._urls = tuple(dict.fromkeys(urls))
        self._pool = PerLoop(lambda: Pool(self._urls))

    async def post(
        self, payload: Mapping[str, Any], parse: Callable[[Any], T], headers: Mapping[str, str] | None = None
    ) -> T:
        """Posts ``payload`` and returns ``parse(answer)``; ``parse`` raises TransientFault on a malformed answer.

        Raises:
            ServiceUnavailable: every attempt failed; it names all servers.
            ServiceRejected: a server refused the request, so that no other one is asked.
        """
        pool = self._pool.get()

        async def attempt() -> T:
            return await self._try_all(pool, lambda url: self._client.attempt(url, payload, parse, headers))

        return await self._client.retried(", ".join(self._urls), attempt)

    async def _try_all(self, pool: Pool, send: Callable[[str], Awaitable[T]]) -> T:
        """Asks one available server after the other. Raises TransientFault when none is left."""
        faults: dict[Replica, TransientFault] = {}
        while (replica := pool.choose(time.monotonic(), faults)) is not None:
            replica.in_flight += 1
            try:
                answer = await send(replica.url)
            except TransientFault as fault:
                faults[replica] = fault
                pool.failed(replica, time.monotonic(), fault.retry_after_s)
            except ServiceRejected:
                pool.answered(replica, time.monotonic())
                raise
            else:
                pool.answered(replica, time.monotonic())
                return answer
            finally:
                replica.in_flight -= 1
        raise TransientFault(self._explain(faults), pool.asked_s(time.monotonic()))

    def _explain(self, faults: Mapping[Replica, TransientFault]) -> str:
        if len(self._urls) == 1:
            return "; ".join(map(str, faults.values()))
        return "; ".join(f"{replica.url}: {fault}" for replica, fault in faults.items())
