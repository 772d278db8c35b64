"""Loads a collection whose encoder and index are in processes of Ray's."""

import atexit
from contextlib import ExitStack

from rich.progress import Progress

from slime_search.retrieval.cluster.connection import RayConnection
from slime_search.retrieval.cluster.scale import Scale
from slime_search.retrieval.collection import (
    Collection,
    RetrieverName,
    RetrieverSettings,
    check_settings,
    open_corpus,
)
from slime_search.retrieval.errors import SetupError


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
    from slime_search.retrieval.cluster.programs import for_processes, programs_of, retriever_of

    settings = for_processes(settings, has_gpus=connection.has_gpus)
    applications = Applications(scale, outlived=not connection.is_own)
    if not connection.is_own:
        started.callback(applications.delete)
    replicas = applications.start(programs_of(settings, scale.shards), progress)
    return Collection(corpus, retriever_of(settings, scale.shards, corpus, replicas), started.close)
