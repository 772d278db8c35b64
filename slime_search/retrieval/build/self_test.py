"""How much of exact search's answers a store finds."""

from collections.abc import Mapping

import numpy as np
import torch

from slime_search.retrieval.build.inputs import Questions
from slime_search.retrieval.vectors.codes import PlainCodes
from slime_search.retrieval.vectors.exact_index import ExactIndex, Shard
from slime_search.retrieval.vectors.manifest import Kind, SelfTest
from slime_search.retrieval.vectors.rescoring import Stored
from slime_search.retrieval.vectors.vector_index import Neighbours, VectorIndex

QUERIES = 500
DEPTH = 10
LEAST_RECALL: Mapping[Kind, float] = {Kind.FLAT: 1.0, Kind.SQ8: 1.0, Kind.RABITQ: 0.97}
"""Of the best 3; less than that is something to look into."""

_KS = (1, 3, 10)


def true_neighbours(vectors: Stored, questions: Questions) -> Neighbours:
    """By the stored vectors, in float32."""
    codes = PlainCodes(torch.from_numpy(vectors))
    return ExactIndex(vectors, [Shard(0, codes)]).search(questions.vectors, min(DEPTH, len(vectors)))


def measure(index: VectorIndex, questions: Questions, truth: Neighbours) -> SelfTest:
    found = index.search(questions.vectors, truth.rows.shape[1])
    recall = {k: _recall(found, truth, k) for k in _KS if k <= truth.rows.shape[1]}
    return SelfTest(queries=len(questions.vectors), made_from=questions.made_from, recall=recall)


def _recall(found: Neighbours, truth: Neighbours, k: int) -> float:
    hits = [np.isin(there, here).mean() for here, there in zip(found.rows[:, :k], truth.rows[:, :k], strict=True)]
    return round(float(np.mean(hits)), 4)
