"""Why a server that works may refuse a request for now."""

from typing import ClassVar


class Unavailable(Exception):
    """A request is answered 503 with Retry-After; the message says why and what to do."""

    status: ClassVar[str]
    """What the answer's ``status`` says."""


class QueueFull(Unavailable):
    """Too many queries wait already."""

    status = "overloaded"


class DeadlineExceeded(Unavailable):
    """There was no answer in time."""

    status = "late"


class Draining(Unavailable):
    """The server was told to end before the request came."""

    status = "draining"
