"""A collection that is searched by processes of Ray: how many there are, and how they come up.

Ray, torch and FAISS are imported only when that begins.
"""

import atexit
from contextlib import ExitStack
from dataclasses import dataclass

from rich.progress import Progress

from slime_search.retrieval.choices import RetrieverName
from slime_search.retrieval.cluster.connection import RayConnection
from slime_search.retrieval.collection import (
    Collection,
    RetrieverSettings,
    check_settings,
    open_corpus,
    report,
)
from slime_search.retrieval.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Raises SetupError where a number can't be had."""

    replicas: int = 1
    """Processes for the encoder, for every part of the index, for BM25 and for the reranker: so many of each."""
    max_replicas: int | None = None
    """Where it is more than ``replicas``, each of these grows up to it under load and shrinks again."""
    shards: int = 1
    """Parts of the index; each is held by processes of its own."""
    threads: int = 1
    """CPU threads of a process."""
    gpus: float = 1.0
    """GPUs of a process that computes on one; below 1, several share it."""
    ray_address: str | None = None
    """A Ray cluster that runs already, as ``host:port`` or ``auto``; None starts one on this machine alone."""

    def __post_init__(self) -> None:
        for name in ("replicas", "shards", "threads"):
            if (value := getattr(self, name)) < 1:
                raise SetupError(f"{name}: {value} is too few; there must be at least 1")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise SetupError(f"max_replicas: {self.max_replicas} is below replicas, {self.replicas}; raise it")
        if not self.gpus > 0:
            raise SetupError(f"gpus: {self.gpus:g} is not a share of a GPU; give a number above 0")

    @property
    def most(self) -> int:
        """How many replicas of one kind there may be."""
        return self.max_replicas or self.replicas

    @property
    def workers(self) -> int:
        """How many batches to keep under way: one is encoded while another is looked up."""
        return 2 * self.most

    @property
    def cpus(self) -> int:
        """CPUs for all processes: of the encoder, of BM25, of the reranker and of every part."""
        return (3 + self.shards) * self.most * self.threads


def load_cluster(settings: RetrieverSettings, scale: Scale, progress: Progress) -> Collection:
    """Opens the corpus, and starts the processes here or on the Ray cluster that ``scale`` names.

    Every machine of the cluster needs this package, and the files and models at the same paths. A device may also be
    ``auto``: a GPU where the cluster has one. Closing the collection ends what was started, and Ray too where it was
    started here.

    Raises:
        SetupError: a file, a model, an option or Ray can't be used, or they do not fit each other.
    """
    check_settings(settings)
    if settings.name == RetrieverName.BM25 and scale.shards > 1:
        raise SetupError(
            f"shards: {scale.shards} parts of a BM25 index would rank otherwise than the whole, since a word's weight "
            "depends on all passages; raise replicas instead"
        )
    started = ExitStack()
    try:
        return _start(settings, scale, progress, started)
    except BaseException:
        started.close()
        raise


def _start(settings: RetrieverSettings, scale: Scale, progress: Progress, started: ExitStack) -> Collection:
    corpus = open_corpus(settings.corpus_path, progress)
    progress.add_task("starting Ray", total=None)
    connection = RayConnection(scale.ray_address, cpus=scale.cpus)
    started.callback(connection.close)
    # Who is told to end while it loads has no collection to close. What is registered last comes first: Ray's own end
    # would leave nothing to delete applications with.
    atexit.register(started.close)
    # These need Ray, which is there by now.
    from slime_search.retrieval.cluster.applications import Applications
    from slime_search.retrieval.cluster.programs import collection_of, for_processes, programs_of

    settings = for_processes(settings, has_gpus=connection.has_gpus)
    applications = Applications(scale, outlived=not connection.is_own)
    if not connection.is_own:
        started.callback(applications.delete)
    processes = applications.start(programs_of(settings, scale.shards), progress)
    started.callback(applications.stop_watching)
    connection.check_listens_here()
    collection = collection_of(settings, scale.shards, corpus, processes)
    report(collection.effort, progress)
    return collection._replace(close=started.close, check=applications.check, processes=applications.facts)
