"""Attention for the engine's two kinds of passes, plugged into transformers' models."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, PreTrainedModel

# Attention reads a multiple of so many positions: few enough to waste little, and few sizes for the allocator.
_LENGTH_STEP = 16
_NAME = "slime_search_slots"


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of the running requests: row ``i`` belongs to the ``i``-th of them.

    The rows in use are the first ``len(self.lengths)``: new requests are appended, and the last one moves into the row
    of one that ends. Attention therefore reads a plain view. Each layer's tensors are (rows, heads, positions, head
    size); they grow by doubling, up to ``max_rows`` and ``max_length``.

    A forward pass is announced by `begin_prefill` or `begin_decode` and counts only after `end_prefill` or
    `end_decode`, so that one that fails half-way leaves the requests as they were.

    Three requests, with prompts of 3, 5 and 2 tokens::

        begin_prefill(2, width=5), pass, end_prefill([3, 5])    lengths [3, 5]       rows 0 and 1, each from position 0
        begin_decode(), pass, end_decode()                      lengths [4, 6]       one token more at positions 3, 5
        begin_prefill(1, width=2), pass, end_prefill([2])       lengths [4, 6, 2]    row 2; rows 0 and 1 stay
        remove(0)                                               lengths [2, 6]       the last row, of length 2, is row 0

    The padding of a prefill leaves keys behind a prompt's end (row 0 held 3 tokens, and 2 of padding). No pass reads
    them: a decode's mask ends at the row's length, and its new token overwrites the first of them.
    """

    def __init__(self, num_layers: int, max_rows: int, max_length: int) -> None:
        super().__init__(layers=[])
        self.lengths: list[int] = []
        """Tokens in each row."""
        self._max_rows, self._max_length = max_rows, max_length
        self._capacity = (0, 0)
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._prompts = 0
        self._width = 0
        self._span = 0
        self._rows = self._positions = torch.empty(0, dtype=torch.long)

    def begin_prefill(self, prompts: int, width: int) -> None:
        """The next pass appends ``prompts`` rows with a right-padded prompt of ``width`` tokens each."""
        self._reserve(len(self.lengths) + prompts, width)
        self._prompts, self._width = prompts, width

    def end_prefill(self, lengths: list[int]) -> None:
        self.lengths += lengths

    def begin_decode(self) -> tuple[Tensor, Tensor]:
        """The next pass appends one token to every row.

        Returns:
            Its positions (rows, 1) and the additive attention mask (rows, 1, 1, span) of the view it will read.
        """
        rows, longest = len(self.lengths), max(self.lengths) + 1
        self._prompts = 0
        self._span = min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, self._max_length)
        self._reserve(rows, self._span)
        self._rows, self._positions = torch.arange(rows), torch.tensor(self.lengths)
        hidden = torch.arange(self._span) > self._positions[:, None]
        mask = torch.zeros(rows, self._span).masked_fill_(hidden, float("-inf"))
        return self._positions[:, None], mask[:, None, None]

    def end_decode(self) -> None:
        self.lengths = [length + 1 for length in self.lengths]

    def remove(self, row: int) -> None:
        """Frees ``row``; the last row moves into it."""
        length = self.lengths.pop()
        last = len(self.lengths)
        if row != last:
            for tensor in self._tensors():
                tensor[row, :, :length] = tensor[last, :, :length]
            self.lengths[row] = length

    def truncate(self, rows: int) -> None:
        """Keeps the first ``rows`` rows and clears the others: what a failed pass left there may be NaN, which no
        mask keeps out of the next request's attention."""
        del self.lengths[rows:]
        for tensor in self._tensors():
            tensor[rows:] = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values, each (rows, heads, new tokens, head size); what attention reads."""
        keys, values = self._layer(layer_idx, key_states)
        if self._prompts:
            first = len(self.lengths)
            keys[first : first + self._prompts, :, : self._width] = key_states
            values[first : first + self._prompts, :, : self._width] = value_states
            return key_states, value_states
        keys[self._rows, :, self._positions] = key_states[:, :, 0]
        values[self._rows, :, self._positions] = value_states[:, :, 0]
        return keys[: len(self._rows), :, : self._span], values[: len(self._rows), :, : self._span]

    def _layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._keys[index], self._values[index]
        rows, length = self._capacity
        if keys is None or values is None:
            keys, values = (like.new_zeros(rows, like.shape[1], length, like.shape[3]) for _ in range(2))
        elif keys.shape[0] < rows or keys.shape[2] < length:
            keys, values = (_enlarge(tensor, rows, length) for tensor in (keys, values))
        self._keys[index], self._values[index] = keys, values
        return keys, values

    def _reserve(self, rows: int, length: int) -> None:
        """The layers are enlarged one by one, when the pass reaches them, which halves the memory it takes."""
        old_rows, old_length = self._capacity
        if rows > old_rows:
            rows = min(max(rows, 2 * old_rows), self._max_rows)
        if length > old_length:
            length = min(max(length, 2 * old_length), self._max_length)
        self._capacity = max(rows, old_rows), max(length, old_length)

    def _tensors(self) -> list[Tensor]:
        return [tensor for tensor in (*self._keys, *self._values) if tensor is not None]


def _enlarge(tensor: Tensor, rows: int, length: int) -> Tensor:
    larger = tensor.new_zeros(rows, tensor.shape[1], length, tensor.shape[3])
    larger[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return larger


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
