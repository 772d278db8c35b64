"""Lets a server end without leaving a request unanswered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slime_search.retrieval.unavailable import Draining


class Drain:
    """Counts the requests in flight and, once it has begun, refuses new ones.

    Everything happens in the thread of the event loop, signal handlers included.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._on_empty: Callable[[], object] | None = None

    @property
    def begun(self) -> bool:
        """Whether new requests are refused."""
        return self._on_empty is not None

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the answering of one request. Raises Draining."""
        self.check()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._on_empty is not None and not self._in_flight:
                self._on_empty()

    def check(self) -> None:
        """Raises Draining where a new request is to be refused."""
        if self._on_empty is not None:
            raise Draining("the server is about to end: ask another one, or try again later")

    def begin(self, on_empty: Callable[[], object]) -> None:
        """Refuses new requests; ``on_empty`` is called when none is in flight, at once where that is so already."""
        self._on_empty = on_empty
        if not self._in_flight:
            on_empty()
