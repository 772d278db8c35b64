"""Log-probabilities of tokens that were scored before, after the same tokens."""

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from slime_search.recipes.distillation.prompt_log_probs import Span

BLOCK = 32
"""Tokens that are kept, and found, together."""


class PrefixCache:
    """What a frozen model said, for trajectories that begin with the same tokens.

    The trajectories of a group share their prompt, often the first query, and with it what was found. A token's
    log-probability depends on the tokens before it alone, so it is found under a digest of all of them.

    Args:
        tokens: kept at most; those asked for the longest time ago are forgotten.
    """

    def __init__(self, tokens: int) -> None:
        self._room = tokens
        self._held = 0
        self._blocks: OrderedDict[bytes, array[float]] = OrderedDict()

    def known(self, span: Span) -> list[float]:
        """The log-probabilities of the scored tokens, up to the first that is not known."""
        found: list[float] = []
        for key, _ in _keys(span):
            block = self._blocks.get(key)
            if block is None:
                break
            self._blocks.move_to_end(key)
            found += block
        return found

    def keep(self, span: Span, log_probs: Sequence[float]) -> None:
        """``log_probs`` are those of all scored tokens."""
        if not self._room:
            return
        for key, start in _keys(span):
            if key not in self._blocks:
                block = self._blocks[key] = array("d", log_probs[start : start + BLOCK])
                self._held += len(block)
        while self._held > self._room:
            self._held -= len(self._blocks.popitem(last=False)[1])


def _keys(span: Span) -> Iterator[tuple[bytes, int]]:
    """A key for each block of scored tokens, and where it begins among them. Each key stands for all tokens before."""
    key = _digest(b"", span.token_ids[: span.start])
    scored = span.scored
    for start in range(0, len(scored), BLOCK):
        key = _digest(key, scored[start : start + BLOCK])
        yield key, start


def _digest(before: bytes, token_ids: Sequence[int]) -> bytes:
    return blake2b(before + array("q", token_ids).tobytes(), digest_size=16).digest()
