"""One way to talk to every HTTP service: pooled connections, bounded retries, typed errors."""

import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
from tenacity import AsyncRetrying, RetryCallState

from slime_search.errors import RefusedRequest, ServiceRejected, ServiceUnavailable, TransientFault
from slime_search.transport.addresses import proxy_for
from slime_search.transport.per_loop import PerLoop, close_all
from slime_search.transport.retrying import SERVICES, retry_after_s

logger = logging.getLogger(__name__)

T = TypeVar("T")
Send = Callable[[str, Mapping[str, Any], Mapping[str, str]], Awaitable[Any]]
"""Posts a JSON object to a URL with headers and returns the decoded JSON answer."""

_ROUTER_ERROR = "x-smg-error-code"
ROUTER_REPEATS = 5
"""How often sglang-router (0.3.2) asks an engine that answers 408, 429 or 5xx, within half a second."""
RETRIABLE_STATUS = frozenset({408, 425, 429})


class PooledSender:
    """Sends through one aiohttp session per event loop.

    slime runs its rollouts on a loop of its own and a process may have several, so the sessions are kept by loop.

    Args:
        concurrency: requests in flight at most, per event loop; more wait for a connection.
        timeout_s: seconds to wait for a connection, and for each next byte of the answer.
        proxy: an HTTP proxy's URL.
        token: a bearer token of every request.
    """

    def __init__(
        self, *, concurrency: int, timeout_s: float, proxy: str | None = None, token: str | None = None
    ) -> None:
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._proxy = proxy
        self._session = PerLoop(self._new_session, close=aiohttp.ClientSession.close)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def __call__(self, url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        body = orjson.dumps(payload)
        headers = {**self._headers, **headers}
        try:
            proxy = proxy_for(url, self._proxy)
            async with self._session.get().post(url, data=body, headers=headers, proxy=proxy) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientFault(_why(url, error, self._timeout_s)) from error
        if response.status >= 500 or response.status in RETRIABLE_STATUS:
            raise fault_of(response.status, response.headers, f"HTTP {response.status}: {_excerpt(content)}")
        if response.status >= 300:
            message = f"HTTP {response.status}: {_excerpt(content)}"
            raise RefusedRequest(message, status=response.status, body=_decoded_or_none(content))
        try:
            return _decode(content)
        except ValueError as error:
            raise TransientFault(f"the answer is not JSON ({error}): {_excerpt(content)}") from error

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Waiting for a free connection is not the server's fault, so it does not count.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s, sock_read=self._timeout_s),
        )


async def close_sessions() -> None:
    """Closes every pooled session of the running loop, for a program whose loop ends before the process does."""
    await close_all()


class ServiceClient:
    """Requests to one named service, retried while the fault may pass.

    Args:
        service: how messages call it ("retriever", "engine").
        send: how one attempt is made.
        attempts: at most this many a request, with exponential waits between them.
        patience_s: seconds after which a request that failed is not tried again, for a service whose single attempt
            may take long. None tries ``attempts`` times however long that takes.
        repeats: how often a router before the service has asked it before it hands on an HTTP error that may pass.
            Such an answer takes as many of the waits together. The last attempt comes as late as it would without the
            router: 8 attempts become 3, and a service sees 15 requests and not 40.
    """

    def __init__(
        self, service: str, send: Send, *, attempts: int, patience_s: float | None = None, repeats: int = 1
    ) -> None:
        self.service = service
        self._send = send
        self._attempts = attempts
        self._patience_s = patience_s
        self._repeats = repeats

    def behind_router(self, repeats: int = ROUTER_REPEATS) -> "ServiceClient":
        """The same client where a router before the service repeats requests itself."""
        return ServiceClient(
            self.service, self._send, attempts=self._attempts, patience_s=self._patience_s, repeats=repeats
        )

    async def post(
        self, url: str, payload: Mapping[str, Any], parse: Callable[[Any], T], headers: Mapping[str, str] | None = None
    ) -> T:
        """Posts ``payload`` and returns ``parse(answer)``; ``parse`` raises TransientFault on a malformed answer.

        Raises:
            ServiceUnavailable: every attempt failed.
            ServiceRejected: the server refused the request.
        """

        return await self.retried(url, lambda: self.attempt(url, payload, parse, headers))

    async def attempt(
        self, url: str, payload: Mapping[str, Any], parse: Callable[[Any], T], headers: Mapping[str, str] | None = None
    ) -> T:
        """Posts once.

        Raises:
            TransientFault: it failed in a way that may pass.
            ServiceRejected: the server refused the request.
        """
        try:
            return parse(await self._send(url, payload, headers or {}))
        except RefusedRequest as error:
            raise ServiceRejected(self.service, url, str(error), status=error.status, body=error.body) from error

    async def retried(self, where: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Calls ``attempt`` until it raises no TransientFault.

        Raises:
            ServiceUnavailable: every attempt failed; it names ``where``.
        """
        started = time.monotonic()
        try:
            # A first attempt mostly succeeds, and tenacity's bookkeeping around it would cost as much as the request.
            return await attempt()
        except TransientFault as fault:
            return await self._retry(where, attempt, fault, started)

    async def _retry(self, where: str, attempt: Callable[[], Awaitable[T]], fault: TransientFault, started: float) -> T:
        """Goes on after a first attempt, which began at ``started``, ended in ``fault``."""
        faults = [fault]
        tries = _Tries(self._attempts, self._repeats)
        tried = 1

        async def replay_then_attempt() -> T:
            nonlocal tried
            if faults:
                raise faults.pop()
            tried += 1
            return await attempt()

        def is_last(state: RetryCallState) -> bool:
            waited_long = self._patience_s is not None and time.monotonic() - started >= self._patience_s
            return waited_long or tries.are_spent(state)

        retrying = AsyncRetrying(**SERVICES.policy(is_last, wait=tries.wait_s, before_sleep=self._log_retry))
        try:
            return await retrying(replay_then_attempt)
        except TransientFault as error:
            attempts = f"{tried} attempt{'s' if tried > 1 else ''}"
            raise ServiceUnavailable(self.service, where, f"{error} (after {attempts})") from error

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info("%s: attempt %d of %d failed: %s", self.service, state.attempt_number, self._attempts, error)


class _Tries:
    """The attempts of one request: of the waits between ``allowed`` of them, how many were taken."""

    def __init__(self, allowed: int, repeats: int) -> None:
        self._waits = allowed - 1
        self._repeats = repeats
        self._taken = 0
        self._spent = False

    def wait_s(self, state: RetryCallState) -> float:
        """Counts the attempt that just failed. tenacity asks for the wait before it asks whether to stop."""
        fault = state.outcome.exception() if state.outcome else None
        answered = isinstance(fault, TransientFault) and fault.answered
        before = self._taken
        self._spent = before >= self._waits
        self._taken = min(before + (self._repeats if answered else 1), self._waits)
        return SERVICES.wait_s(fault, range(before, self._taken))

    def are_spent(self, state: RetryCallState) -> bool:
        return self._spent


def _why(url: str, error: Exception, timeout_s: float) -> str:
    """Why there is no whole answer, and where none came from: the proxy, where it is that that can't be reached."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    match error:
        case aiohttp.ClientProxyConnectionError():
            return f"proxy {error.host}:{error.port}: {_of_system(error.os_error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"no address is known of {error.host}, at {where}"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate at {where} is not valid ({error.certificate_error})"
        case aiohttp.ClientConnectorError():
            return f"{_of_system(error.os_error)} at {where}"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s at {where}"
        case aiohttp.ServerDisconnectedError():
            return f"the connection was closed without an answer at {where}"
        case aiohttp.ClientPayloadError():
            return f"the answer broke off at {where}"
        case aiohttp.ClientOSError():
            return f"{_of_system(error)} at {where}"
    return f"{str(error) or type(error).__name__} at {where}"


def _of_system(error: OSError) -> str:
    """The system's words; asyncio's own begin with a number and an address where several were tried."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def fault_of(status: int, headers: Mapping[str, str], message: str) -> TransientFault:
    """What an HTTP error is that may pass. A router that found no service says so in one of the headers."""
    return TransientFault(message, retry_after_s(headers), status=status, answered=_ROUTER_ERROR not in headers)


def _decode(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # The standard library is slower and takes more: an escaped lone surrogate, which real corpora hold.
        return json.loads(content, parse_constant=_refuse_constant)


def _decoded_or_none(content: bytes) -> Any:
    try:
        return _decode(content)
    except ValueError:
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _excerpt(content: bytes) -> str:
    text = content[:300].decode(errors="replace")
    return text if len(content) <= 300 else f"{text}…"
