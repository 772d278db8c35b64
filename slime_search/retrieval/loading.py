"""Loads a corpus and its index while the server already answers."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.passages import CorpusError
from slime_search.retrieval.retriever import Retriever


class Collection(NamedTuple):
    """What is served: the hits of ``retriever`` are positions in ``corpus``."""

    corpus: Corpus
    retriever: Retriever


class NotLoaded(Exception):
    """The collection is asked for before its load has ended."""


def load_bm25(corpus_path: Path, progress: Progress) -> Collection:
    """Opens a corpus and indexes it with BM25.

    Raises:
        CorpusError: the corpus can't be read, or holds no word.
    """
    reading = progress.add_task("reading the corpus", total=None)
    corpus = Corpus.read(corpus_path, lambda done, total: progress.update(reading, completed=done, total=total))
    texts = progress.track(corpus.texts(), total=len(corpus), description="indexing")
    try:
        return Collection(corpus, Bm25Index.build(texts))
    except ValueError as error:
        raise CorpusError(f"{corpus_path}: {error}; is this the right file?") from error


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
        """Takes the progress bar off the terminal, where the load is still running."""
        self._progress.stop()

    def _run(self, on_end: Callable[[], None]) -> None:
        try:
            with self._progress:
                self._collection = self._load(self._progress)
        except Exception as error:  # noqa: BLE001 -- kept for the main thread, which raises it
            self.error = error
        on_end()
