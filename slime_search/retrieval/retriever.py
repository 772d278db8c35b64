"""What every index offers to the server."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Hit(NamedTuple):
    """One found passage: its position in the corpus, counted from 0, and its score, the higher the better."""

    row_index: int
    score: float


class Query(NamedTuple):
    """What is searched for. Equal queries have equal hits."""

    text: str
    topk: int


class Retriever(Protocol):
    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        """Finds at most ``topk`` passages for every query, best first; fewer, or none, where no more match.

        Several worker threads may call it at once. What a query gets does not depend on the queries beside it.
        """
        ...
