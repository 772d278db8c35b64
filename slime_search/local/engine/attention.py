"""Attention for the engine's two kinds of passes, plugged into transformers' models."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

_NAME = "slime_search_slots"


def use_slot_attention(model: PreTrainedModel) -> None:
    """Makes ``model`` attend by `slot_attention`."""
    AttentionInterface.register(_NAME, slot_attention)
    model.set_attn_implementation(_NAME)


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_options: Any,
) -> tuple[Tensor, None]:
    """Causal attention of a prefill, without a mask, or masked attention of one new token a row.

    Args:
        query: (rows, heads, new tokens, head size).
        key: (rows, key/value heads, span, head size), and so is ``value``.
        attention_mask: additive, (rows, 1, 1, span).

    Returns:
        (rows, new tokens, heads, head size), and no weights.
    """
    if attention_mask is None:
        output = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
        return output.transpose(1, 2), None
    # Two batched products, as torch's fused kernel for CPUs is made for many queries a head. They read the cache as it
    # lies there; the heads that share a key/value head become its queries.
    rows, heads, _, head_size = query.shape
    scale = scaling if scaling is not None else head_size**-0.5
    shared = query.reshape(rows, key.shape[1], heads // key.shape[1], head_size)
    weights = torch.matmul(shared * scale, key.transpose(2, 3)).add_(attention_mask).softmax(-1)
    output = torch.matmul(weights, value)
    return output.view(rows, 1, heads, head_size), None
