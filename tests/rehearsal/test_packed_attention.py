from itertools import pairwise

import pytest
import torch

from slime_search.rehearsal.cpu.packed_attention import packed_attention


@pytest.mark.parametrize(("heads", "groups", "scale"), [(4, 4, None), (4, 2, None), (2, 2, 0.3)])
@pytest.mark.parametrize("bounds", [[0, 7], [0, 1, 4, 9], [0, 3, 3, 5]])
def test_each_token_reads_those_before_it_in_its_own_sequence(
    heads: int, groups: int, scale: float | None, bounds: list[int]
) -> None:
    torch.manual_seed(0)
    length, width = bounds[-1], 8
    query = torch.randn(length, heads, width)
    key, value = torch.randn(2, length, groups, width)
    found = packed_attention(query, key, value, bounds, scale)
    assert found.shape == (length, heads * width)
    for begin, end in pairwise(bounds):
        for token in range(begin, end):
            for head in range(heads):
                group = head * groups // heads
                scores = key[begin : token + 1, group] @ query[token, head] * (scale or width**-0.5)
                read = scores.softmax(0) @ value[begin : token + 1, group]
                torch.testing.assert_close(found[token, head * width : (head + 1) * width], read)


def test_gradients_do_not_cross_sequences() -> None:
    query, key, value = (torch.randn(5, 2, 4, requires_grad=True) for _ in range(3))
    packed_attention(query, key, value, [0, 2, 5])[:2].sum().backward()
    assert value.grad is not None
    assert value.grad[:2].abs().sum() > 0 and value.grad[2:].abs().sum() == 0
