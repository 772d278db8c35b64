"""Lets a server end without leaving a request unanswered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slime_search.retrieval.unavailable import Draining


class Drain:
    """Counts the requests in flight and, once it has begun, refuses new ones.

    It begins in a signal handler, between any two steps of the event loop's thread, in which everything else happens.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._on_empty: Callable[[], object] | None = None
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether new requests are refused."""
        return self._on_empty is not None

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the answering of one request. Raises Draining."""
        # Counted before it is let in: a drain that begins in between waits for it.
        self._in_flight += 1
        try:
            self.check()
            yield
        finally:
            self._in_flight -= 1
            self._end_if_empty()

    def check(self) -> None:
        """Raises Draining where a new request is to be refused."""
        if self._on_empty is not None:
            raise Draining("the server is about to end: ask another one, or try again later")

    def begin(self, on_empty: Callable[[], object]) -> None:
        """Refuses new requests; ``on_empty`` is called once, as soon as none is in flight."""
        self._on_empty = on_empty
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self._on_empty is not None and not self._in_flight and not self._ended:
            self._ended = True
            self._on_empty()
