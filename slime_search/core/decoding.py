"""The text of token ids that an engine sampled."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

from tokenizers.decoders import ByteLevel

from slime_search.core.byte_alphabet import token_bytes
from slime_search.core.tokens import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def decoded(tokenizer: Tokenizer, token_ids: Sequence[int], *, after: int | None = None) -> str:
    """The text of ``token_ids``, special tokens included, where they stand behind the token ``after``.

    A tokenizer of SentencePiece's kind drops the blank of a text's first word, so the first word of a turn is decoded
    together with the token before it.
    """
    decode = _decoder(cast(Hashable, tokenizer))
    if after is None or isinstance(decode, _ByteLevel):
        return decode(list(token_ids))
    before = decode([after])
    whole = decode([after, *token_ids])
    return whole[len(before) :] if whole.startswith(before) else decode(list(token_ids))


def text_that_follows(
    tokenizer: Tokenizer, said: str, begun: Sequence[int], token_ids: Sequence[int], *, after: int | None, last: bool
) -> str:
    """What ``token_ids`` add to the text of a turn, so that the texts of its segments together are the text of its ids.

    Args:
        said: the text of the turn's earlier segments; an interrupted turn has them, others have none.
        begun: the token ids of those segments.
        token_ids: what was sampled now.
        after: the token in front of the turn, if there is one.
        last: whether the turn ends here. If not, a character that is there in part is left to the next segment:
            ``é`` may be two tokens, and the text of the first alone would be a replacement character.
    """
    text = decoded(tokenizer, [*begun, *token_ids], after=after)
    if not last:
        text = text.rstrip(_UNFINISHED)
    return text[len(said) :] if text.startswith(said) else decoded(tokenizer, token_ids)


@lru_cache(64)
def _decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """A function from ids to text: the Rust tokenizer's own where there is one, without clean-up of blanks."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
    if isinstance(backend.decoder, ByteLevel):
        return _ByteLevel(backend)
    return lambda ids: str(backend.decode(ids, skip_special_tokens=False))


class _ByteLevel:
    """The text of a byte-level tokenizer's ids, as its own ``decode`` gives it, in a fifth of the time.

    Each of its tokens stands for bytes by itself, so they are looked up once.
    """

    def __init__(self, backend: Any) -> None:
        self._bytes_of = _TokenBytes(backend)

    def __call__(self, ids: list[int]) -> str:
        return b"".join(map(self._bytes_of.__getitem__, ids)).decode(errors="replace")


class _TokenBytes(dict[int, bytes]):
    def __init__(self, backend: Any) -> None:
        super().__init__()
        self._backend = backend

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = token_bytes(self._backend.id_to_token(token_id) or "")
        return self[token_id]
