"""How a server serves."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServingOptions:
    default_topk: int = 3
    """Passages a query where the request does not say."""
    workers: int = 1
    """Searches at once."""
    queue_size: int = 16_384
    """Queries that may wait; more are refused."""
    deadline_s: float | None = None
    """Seconds after which a request without an answer is given up; None waits for as long as it takes."""
    cache_bytes: int = 64 << 20
    """Memory for the results of past searches; 0 keeps none."""
    token: str | None = field(default=None, repr=False)
    """What clients have to send as a bearer token; None asks for nothing."""
