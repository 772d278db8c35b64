"""Loads what is served while the server already answers."""

import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress

from slime_search.retrieval.collection import Collection


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


class NotLoaded(Exception):
    """The collection is asked for before its load has ended."""


class Loading:
    """A collection on its way into memory, in a daemon thread, with a progress bar where stderr is a terminal.

    ``error`` is what a failed load raised.
    """

    def __init__(self, load: Callable[[Progress], Collection]) -> None:
        self.error: Exception | None = None
        self._load = load
        self._collection: Collection | None = None
        self._progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())

    @property
    def collection(self) -> Collection:
        """The loaded collection. Raises NotLoaded until there is one."""
        if self._collection is None:
            raise NotLoaded
        return self._collection

    @property
    def loaded(self) -> Collection | None:
        """The collection, once it is there."""
        return self._collection

    def start(self, on_end: Callable[[], None]) -> None:
        """Begins; ``on_end`` is called from the thread once the load has succeeded or failed."""
        threading.Thread(target=self._run, args=(on_end,), name="loading", daemon=True).start()

    def progress(self) -> dict[str, str | float | None]:
        """The step that is running and how far it is, in bytes or passages; ``total`` is None where it is not known."""
        if not self._progress.tasks:
            return {"step": "starting", "done": 0, "total": None}
        task = self._progress.tasks[-1]
        return {"step": task.description, "done": task.completed, "total": task.total}

    def close(self) -> None:
        """Takes the progress bar off the terminal, where the load is still running, and closes what was loaded."""
        self._progress.stop()
        if self._collection is not None:
            self._collection.close()

    def _run(self, on_end: Callable[[], None]) -> None:
        try:
            with self._progress:
                self._collection = self._load(self._progress)
            # It stays; the garbage collector would walk torch's and the model's objects again and again.
            gc.collect()
            gc.freeze()
        except Exception as error:  # noqa: BLE001 -- kept for the main thread, which raises it
            self.error = error
        on_end()
