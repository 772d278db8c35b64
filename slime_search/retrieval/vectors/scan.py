"""Finds the highest inner products among many vectors, block by block."""

import torch

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.codes import Codes

_GROUP = 32
_CPU_PRODUCTS, _GPU_PRODUCTS = 1 << 20, 1 << 26
"""How many products a block has: what stays in a CPU's cache, or keeps a GPU busy."""
_MAX_BLOCK_ROWS = 1 << 16


def scan(codes: Codes, columns: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest products with every column, best first, and their positions; ties by position.

    Both results have the shape (columns, min(count, len(codes))). With one column, whose products with five codes are
    3, 9, 4, 9 and 1, the best two are the values 9 and 9, at the positions 1 and 3.

    Raises:
        VectorIndexError: a product is not a number.
    """
    queries = columns.shape[1]
    products = _CPU_PRODUCTS if codes.device.type == "cpu" else _GPU_PRODUCTS
    rows = min(max(products // queries, 4 * _GROUP), _MAX_BLOCK_ROWS if codes.device.type == "cpu" else products)
    best = _Best(queries, count)
    for start in range(0, len(codes), rows):
        best.add(codes.products(start, min(start + rows, len(codes)), columns), start)
    return best.sorted(len(codes))


class _Best:
    """What is among the highest so far, and some that once was.

    A product that does not pass the lowest of the highest ``count``, the floor, need not be looked at, and most groups
    of 32 rows have none that does; so after the first blocks little more than a maximum over each group is left to do.

    An example with ``count`` 2 and groups of two rows: the first block's products are 3, 9 | 4, 8. The maxima of its
    groups, 9 and 8, make the floor 8, which two products reach for certain: 9 and 8 are kept. The second block has
    7, 2 | 8, 10. Its groups' maxima are 7, which is passed over, and 10, whose group is looked at: 10 passes the floor,
    8 does not, since an equal product of a later row comes after it. Kept are 9, 8 and 10; the best are 10 and 9.
    """

    def __init__(self, queries: int, count: int) -> None:
        self._queries = queries
        self._count = count
        self._found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._held = 0
        self._floor: torch.Tensor | None = None

    def add(self, products: torch.Tensor, first_row: int) -> None:
        lowest = _lowest(products.dtype)
        missing = -len(products) % _GROUP
        if missing:
            products = torch.nn.functional.pad(products, (0, 0, 0, missing), value=lowest)
        grouped = products.view(-1, _GROUP, self._queries)
        highest = grouped.amax(1)
        if self._floor is None and len(highest) >= self._count:
            floor = highest.topk(self._count, dim=0).values[-1]
            passes = torch.ge
        else:
            floor = products.new_full((self._queries,), lowest) if self._floor is None else self._floor
            passes = torch.gt
        group, query = passes(highest, floor).nonzero(as_tuple=True)
        if len(group):
            values = grouped[group, :, query]
            hit, within = passes(values, floor[query, None]).nonzero(as_tuple=True)
            self._found.append((query[hit], values[hit, within], group[hit] * _GROUP + within + first_row))
            self._held += len(hit)
        if (self._floor is None and self._held) or self._held > 3 * self._queries * self._count:
            self._compact(lowest)

    def sorted(self, rows_in_all: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self._queries, min(self._count, rows_in_all))
        if self._held:
            self._compact(None)
        if self._held != shape[0] * shape[1]:
            raise VectorIndexError("some inner products are no numbers, so the index holds NaN or inf; build it again")
        _, values, rows = self._found[0]
        return values.view(shape), rows.view(shape)

    def _compact(self, lowest: float | None) -> None:
        query, values, rows = (torch.cat(parts) for parts in zip(*self._found, strict=True))
        # Blocks come in the order of their rows, and so do the hits of one query within a block.
        order = values.sort(descending=True, stable=True).indices
        order = order[query[order].sort(stable=True).indices]
        sizes = torch.bincount(query, minlength=self._queries)
        starts = sizes.cumsum(0) - sizes
        rank = torch.arange(len(order), device=order.device) - starts[query[order]]
        order = order[rank < self._count]
        self._found, self._held = [(query[order], values[order], rows[order])], len(order)
        if lowest is not None:
            full = sizes >= self._count
            last = (sizes.clamp(max=self._count).cumsum(0) - 1).clamp(min=0)
            self._floor = torch.where(full, values[order][last], values.new_full((), lowest))


def _lowest(dtype: torch.dtype) -> float:
    return float("-inf") if dtype.is_floating_point else torch.iinfo(dtype).min
