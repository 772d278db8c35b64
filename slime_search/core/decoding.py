"""The text of token ids that an engine sampled."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

from slime_search.core.tokens import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def decoded(tokenizer: Tokenizer, token_ids: Sequence[int], *, after: int | None = None) -> str:
    """The text of ``token_ids``, special tokens included, where they stand behind the token ``after``.

    A tokenizer of SentencePiece's kind drops the blank of a text's first word, so the first word of a turn is decoded
    together with the token before it.
    """
    decode = _decoder(tokenizer)
    if after is None:
        return decode(list(token_ids))
    before = _text_of_token(cast(Hashable, tokenizer), after)
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


@lru_cache(1_024)
def _text_of_token(tokenizer: Hashable, token_id: int) -> str:
    """Turns begin behind the same few tokens of the chat template."""
    return _decoder(tokenizer)([token_id])


def _decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """A function from ids to text: the Rust tokenizer's own where there is one, without clean-up of blanks."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decode = tokenizer.decode if backend is None else backend.decode
    return lambda ids: str(decode(ids, skip_special_tokens=False))
