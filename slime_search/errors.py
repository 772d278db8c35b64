"""Every error that slime-search raises on purpose. What code needs to know of one is in its fields."""

from typing import Any


class SlimeSearchError(Exception):
    """Base class, so that a caller can tell our errors from bugs.

    ``found`` is what is wrong, with the field or file and its value, and ``fix`` what to do about it. The message is
    both.
    """

    def __init__(self, found: str, fix: str = "") -> None:
        super().__init__(f"{found}; {fix}" if fix else found)
        self.found = found
        self.fix = fix


class ConfigError(SlimeSearchError, ValueError):
    """A setting is missing, unknown or out of range; the message names the key and the fix."""


class DataError(SlimeSearchError, ValueError):
    """A sample, label or file does not have the documented shape."""


class ProtocolError(SlimeSearchError):
    """A server answers in a protocol that can't be trained on. Fatal: retrying can't help."""


class TooManyFailures(SlimeSearchError):
    """So many trajectories died of one service that the rollout is not worth training on.

    ``service`` failed most of them ("" where it is not known), and ``last_error`` is the last one's error.
    """

    def __init__(self, message: str, *, service: str = "", last_error: str | None = None) -> None:
        super().__init__(message)
        self.service = service
        self.last_error = last_error


class TransientFault(SlimeSearchError):
    """One attempt failed in a way that another attempt may not (a 5xx, a cut connection, truncated JSON).

    ``status`` is the HTTP status where there was an answer, ``retry_after_s`` the wait that the server asked for.
    ``answered`` says that the service itself gave an HTTP error, so that a router before it may have asked it several
    times.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        *,
        status: int | None = None,
        answered: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status
        self.answered = answered


class RefusedRequest(SlimeSearchError):
    """One attempt was answered with a 4xx that another attempt can't change.

    ``status`` is the HTTP status, ``body`` the decoded answer where that is JSON.
    """

    def __init__(self, message: str, *, status: int | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ServiceError(SlimeSearchError):
    """A service could not do its part for one trajectory. It ends that trajectory, without a training signal.

    ``service`` is its name, ``url`` where it was asked ("" where only its name is known), ``reason`` what happened.
    """

    status: int | None = None
    """The HTTP status of a refusal."""

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(f"{service} at {url}: {reason}")
        self.service = service
        self.url = url
        self.reason = reason


class ServiceUnavailable(ServiceError):
    """Every attempt failed in a transient way."""


class ServiceRejected(ServiceError):
    """The service refused the request itself (a 4xx), so no attempt can succeed.

    ``status`` and ``body`` are those of the refusal.
    """

    def __init__(self, service: str, url: str, reason: str, *, status: int | None = None, body: Any = None) -> None:
        super().__init__(service, url, reason)
        self.status = status
        self.body = body


class DelegateFailed(ServiceError):
    """A service failed an agent that another agent had called, and so fails both; the message is the first one's."""

    def __init__(self, service: str, message: str) -> None:
        SlimeSearchError.__init__(self, message)
        self.service = service
        self.url = ""
        self.reason = message


class InvalidQuery(SlimeSearchError):
    """What the model asked of a tool can't be asked, such as a query that is too long. It is an invalid action."""


class Interrupted(SlimeSearchError):
    """The rollout was cancelled while it waited. It ends the trajectory, which can be resumed."""
