"""Every error that slime-search raises on purpose."""


class SlimeSearchError(Exception):
    """Base class, so that a caller can tell our errors from bugs."""


class ConfigError(SlimeSearchError, ValueError):
    """A setting is missing, unknown or out of range; the message names the key and the fix."""


class DataError(SlimeSearchError, ValueError):
    """A sample, label or file does not have the documented shape."""


class ProtocolError(SlimeSearchError):
    """A server answers in a protocol that can't be trained on. Fatal: retrying can't help."""


class TooManyFailures(SlimeSearchError):
    """So many trajectories died of one service that the rollout is not worth training on."""


class TransientFault(SlimeSearchError):
    """One attempt failed in a way that another attempt may not (a 5xx, a cut connection, truncated JSON)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedRequest(SlimeSearchError):
    """One attempt was answered with a 4xx that another attempt can't change."""


class ServiceError(SlimeSearchError):
    """A service could not do its part for one trajectory. It ends that trajectory, without a training signal."""

    def __init__(self, service: str, url: str, message: str) -> None:
        super().__init__(f"{service} at {url}: {message}")
        self.service = service
        self.url = url


class DelegateFailed(ServiceError):
    """A service failed an agent that another agent had called on, and so fails both; the message is the first one's."""

    def __init__(self, service: str, message: str) -> None:
        SlimeSearchError.__init__(self, message)
        self.service = service


class Interrupted(SlimeSearchError):
    """The rollout was called off while a tool was at work. It ends the trajectory, which can be resumed."""


class ServiceUnavailable(ServiceError):
    """Every attempt failed in a transient way."""


class ServiceRejected(ServiceError):
    """The service refused the request itself (a 4xx), so no attempt can succeed."""
