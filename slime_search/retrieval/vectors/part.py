"""A share of an index, for a server that holds only some of the vectors."""

from dataclasses import dataclass

from slime_search.retrieval.vectors.errors import VectorIndexError


@dataclass(frozen=True, slots=True)
class Part:
    """The ``index``-th, counted from 0, of ``of`` nearly equal runs of consecutive vectors."""

    index: int
    of: int

    def rows(self, count: int) -> range:
        """Which of ``count`` vectors are in it. Raises VectorIndexError where there is no such part."""
        if not 0 <= self.index < self.of <= count:
            raise VectorIndexError(
                f"part {self.index} of {self.of} does not exist among {count:,} vectors; "
                f"name a part from 0 to {self.of - 1}, of at most {count:,}"
            )
        return range(count * self.index // self.of, count * (self.index + 1) // self.of)
