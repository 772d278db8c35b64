"""Builds a store, or carries on with one."""

from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress

from slime_search.retrieval.build.code_files import write_codes
from slime_search.retrieval.build.folder import opened
from slime_search.retrieval.build.inputs import Input
from slime_search.retrieval.build.self_test import QUERIES, measure, true_neighbours
from slime_search.retrieval.build.vector_file import write_vectors
from slime_search.retrieval.vectors.manifest import Manifest, Source
from slime_search.retrieval.vectors.part import Part
from slime_search.retrieval.vectors.store import open_as
from slime_search.retrieval.vectors.store_files import VECTORS


def build(store: Path, source: Source, load: Callable[[], Input], progress: Progress) -> Manifest:
    """The manifest of a complete store; one that is complete already is left as it is.

    Args:
        store: the folder.
        source: what it is built from, by which an interrupted build is recognised.
        load: gives the vectors; called when some are missing or to be tested.
        progress: shows the steps.

    Raises:
        VectorIndexError: the folder holds something else, or the vectors can't be stored.
    """
    Part(0, source.shards).rows(source.count)
    with opened(store, source) as folder:
        if Manifest.exists(store):
            return Manifest.read(store)
        vectors_in = load()
        vectors = write_vectors(
            folder,
            vectors_in.count,
            vectors_in.dimension,
            vectors_in.chunks,
            _bar(progress, "vectors", vectors_in.count),
        )
        codes = write_codes(folder, vectors, source.kind, source.shards, _bar(progress, "codes", len(vectors)))
        testing = progress.add_task("self-test", total=None)
        questions = vectors_in.questions(vectors, QUERIES)
        truth = true_neighbours(vectors, questions)
        manifest = Manifest(
            source=source,
            dimension=vectors_in.dimension,
            sizes={name: (store / name).stat().st_size for name in (VECTORS, *codes.files)},
            lost=codes.lost,
            longest=codes.longest,
        )
        tested = measure(open_as(store, manifest), questions, truth)
        manifest = manifest.model_copy(update={"self_test": tested})
        progress.update(testing, total=1, completed=1)
        folder.finish(manifest)
        return manifest


def _bar(progress: Progress, name: str, total: int) -> Callable[[int], object]:
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)
