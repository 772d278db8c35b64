"""Which demonstrations a training step gets."""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from slime_search.errors import ConfigError
from slime_search.hooks.demonstrations import Encoded, Encoder, read_demonstrations
from slime_search.hooks.red.config import RedConfig
from slime_search.tokens import Tokenizer


class Row(NamedTuple):
    """A demonstration, ready to become a sample."""

    number: int
    """Its row in the file, from 0."""
    text: str
    """Its response."""
    encoded: Encoded


class Demonstrations:
    """The rows of a file in an order that depends on the seed alone, so that a resumed run goes on where it was.

    Each epoch shuffles them anew.
    """

    def __init__(self, rows: Sequence[Row], seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._order = lru_cache(2)(self._shuffled)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, number: int, size: int) -> list[Row]:
        """The rows of the ``number``-th batch of ``size``, counted from 0; an epoch's end may lie within it."""
        return list(islice(self._from(number * size), size))

    def _from(self, position: int) -> Iterator[Row]:
        while True:
            epoch, place = divmod(position, len(self._rows))
            yield self._rows[self._order(epoch)[place]]
            position += 1

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(len(self._rows)))
        random.Random(f"{self._seed}/{epoch}").shuffle(order)
        return order


def load(args: Any, config: RedConfig, tokenizer: Tokenizer) -> Demonstrations:
    """All rows of ``config.sft_data``, tokenised.

    Raises:
        DataError: the file or a row of it can't be used.
        ConfigError: a row is longer than --rollout-max-context-len.
    """
    encoder = Encoder(tokenizer, getattr(args, "apply_chat_template_kwargs", None))
    limit = getattr(args, "rollout_max_context_len", None)
    rows = []
    for number, demonstration in enumerate(read_demonstrations(config.sft_data)):
        encoded = encoder.encode(demonstration)
        length = len(encoded.prompt_ids) + len(encoded.response_ids)
        if limit is not None and length > limit:
            raise ConfigError(
                f"{config.sft_data}, row {number}: {length} tokens, and --rollout-max-context-len is {limit}; leave "
                "the row out, or allow longer contexts"
            )
        rows.append(Row(number, "".join(piece.text for piece in demonstration.segments), encoded))
    return Demonstrations(rows, getattr(args, "rollout_seed", 0))
