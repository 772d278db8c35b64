"""What the queries of a search have to be."""

import numpy as np

from slime_search.retrieval.encoders.encoder import Vectors


def check_queries(queries: Vectors, dimension: int) -> Vectors:
    """The queries, contiguous. Raises ValueError where they do not fit the index."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise ValueError(
            f"queries have the shape {queries.shape}, the index takes (queries, {dimension}): "
            "the encoder is not the one that the index was built with"
        )
    if not np.isfinite(queries).all():
        raise ValueError("a query's vector holds NaN or inf; check the encoder's model and precision")
    return np.ascontiguousarray(queries, np.float32)
