"""Causal attention over a packed batch: sequences one behind the other, none of which sees another.

On GPUs flash attention does it. Shapes are named by suffix: t tokens of all sequences, h query heads, k key and value
heads, d the width of a head.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def packed_attention(
    query_thd: Tensor, key_tkd: Tensor, value_tkd: Tensor, bounds: Sequence[int], scale: float | None = None
) -> Tensor:
    """What each token reads of those before it in its own sequence, [t, h·d].

    Args:
        bounds: where sequences begin and end, in tokens: 0, the end of the first, … t. An empty one adds nothing.
        scale: of the products of queries and keys; 1/√d where it is None.
    """
    grouped = query_thd.size(1) != key_tkd.size(1)
    read = []
    for begin, end in pairwise(bounds):
        if begin == end:
            continue
        query, key, value = (part[begin:end].transpose(0, 1)[None] for part in (query_thd, key_tkd, value_tkd))
        read_htd = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)[0]
        read.append(read_htd.transpose(0, 1))
    return torch.cat(read).flatten(1)
