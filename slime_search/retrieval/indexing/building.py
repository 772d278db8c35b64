"""Builds a store, or carries on with one."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.indexing.code_files import write_codes
from slime_search.retrieval.indexing.folder import opened
from slime_search.retrieval.indexing.inputs import Input, Questions
from slime_search.retrieval.indexing.room import check_room
from slime_search.retrieval.indexing.vector_file import write_vectors
from slime_search.retrieval.vectors.codes import PlainCodes
from slime_search.retrieval.vectors.effort import recall_of
from slime_search.retrieval.vectors.exact_index import ExactIndex, Shard
from slime_search.retrieval.vectors.manifest import VECTORS, Kind, Manifest, SelfTest, Source
from slime_search.retrieval.vectors.opening import open_as
from slime_search.retrieval.vectors.stored import RowReader, Stored, as_tensor, release
from slime_search.retrieval.vectors.vector_index import Neighbours, Part, VectorIndex

QUERIES = 500
DEPTH = 10
LEAST_RECALL: Mapping[Kind, float] = {Kind.FLAT: 1.0, Kind.SQ8: 1.0, Kind.RABITQ: 0.97}
"""Of the best 3; less than that is something to look into."""

_KS = (1, 3, 10)
_RUN = 1 << 18


def true_neighbours(vectors: Stored, questions: Questions) -> Neighbours:
    """By the stored vectors, in float32, run by run, so that files larger than the memory are no matter."""
    depth = min(DEPTH, len(vectors))
    scores = np.empty((len(questions.vectors), 0), np.float32)
    rows = np.empty((len(questions.vectors), 0), np.int64)
    for start in range(0, len(vectors), _RUN):
        run = range(start, min(start + _RUN, len(vectors)))
        codes = PlainCodes(as_tensor(vectors[run.start : run.stop]))
        index = ExactIndex(RowReader(vectors, run), [Shard(0, codes)], first_row=start)
        found = index.search(questions.vectors, min(depth, len(run)))
        scores, rows = np.hstack([scores, found.scores]), np.hstack([rows, found.rows])
        order = np.lexsort((rows, -scores), axis=1)[:, :depth]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        release(vectors)
    return Neighbours(scores, rows)


def measure(index: VectorIndex, questions: Questions, truth: Neighbours) -> SelfTest:
    found = index.search(questions.vectors, truth.rows.shape[1])
    recall = {k: recall_of(found.rows[:, :k], truth.rows[:, :k]) for k in _KS if k <= truth.rows.shape[1]}
    return SelfTest(queries=len(questions.vectors), made_from=questions.made_from, recall=recall)


def build(
    store: Path,
    source: Source,
    load: Callable[[], Input],
    progress: Progress,
    ask: Callable[[], Questions] | None = None,
) -> Manifest:
    """The manifest of a complete store; one that is complete already is left as it is, or tested anew with ``ask``.

    Args:
        store: the folder.
        source: what it is built from, by which an interrupted build is recognised.
        load: gives the vectors; called when some are missing or to be tested.
        progress: shows the steps.
        ask: gives the queries of the self-test; None makes them of the vectors or their passages.

    Raises:
        VectorIndexError: the folder holds something else, the disk is too small, or the vectors can't be stored or do
            not fit the queries.
    """
    Part(0, source.shards).rows(source.count)
    with opened(store, source) as folder:
        if Manifest.exists(store):
            manifest = Manifest.read(store)
            if ask is not None:
                manifest = _tested(store, manifest, np.load(store / VECTORS, mmap_mode="r"), ask, progress)
                manifest.write(store)
            return manifest
        vectors_in = load()
        check_room(store, source.kind, vectors_in.count, vectors_in.dimension)
        vectors = write_vectors(
            folder,
            vectors_in.count,
            vectors_in.dimension,
            vectors_in.chunks,
            _bar(progress, "vectors", vectors_in.count),
        )
        codes = write_codes(folder, vectors, source.kind, source.shards, _bar(progress, "codes", len(vectors)))
        manifest = Manifest(
            source=source,
            dimension=vectors_in.dimension,
            sizes={name: (store / name).stat().st_size for name in (VECTORS, *codes.files)},
            lost=codes.lost,
            longest=codes.longest,
        )
        made = partial(vectors_in.questions, vectors, QUERIES)
        manifest = _tested(store, manifest, vectors, ask or made, progress)
        folder.finish(manifest)
        return manifest


def _tested(
    store: Path, manifest: Manifest, vectors: Stored, ask: Callable[[], Questions], progress: Progress
) -> Manifest:
    """The manifest with what the store finds, which is opened for it."""
    testing = progress.add_task("self-test", total=None)
    questions = ask()
    if questions.vectors.shape[1] != manifest.dimension:
        raise VectorIndexError(
            f"--self-test-queries: --retriever_model makes vectors of {questions.vectors.shape[1]} numbers, and "
            f"{store} holds vectors of {manifest.dimension}",
            "name the encoder that made them",
        )
    tested = measure(open_as(store, manifest), questions, true_neighbours(vectors, questions))
    progress.update(testing, total=1, completed=1)
    return manifest.model_copy(update={"self_test": tested})


def _bar(progress: Progress, name: str, total: int) -> Callable[[int], object]:
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)
