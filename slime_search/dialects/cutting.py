"""Fits a tool's text into a token budget."""

from collections.abc import Callable, Sequence

from slime_search.core.dialect import Observation
from slime_search.core.tokens import well_formed

# Longer than any token of a real vocabulary, so a text cut to this many characters a token still fills its budget.
CHARACTERS_PER_TOKEN = 64


Between = Callable[[str, str, str], list[int]]
"""Token ids of a text with what stands before and after it, such as ``TokenCodec.between``."""


def fit_blocks(
    encode: Between, blocks: Sequence[str], max_tokens: int | None, *, before: str = "", after: str = ""
) -> Observation:
    """The longest run of whole leading blocks that fits; if not even the first does, its leading words.

    ``encode`` gives the token ids of text as the context will hold it, which may be escaped; what is cut is the text.
    ``before`` and ``after`` are our own text, whose ids come with it and count; the observation's text is without them.
    """
    if max_tokens is not None:
        # A megabyte passage is cut before it is encoded, since encoding it all would stall the event loop.
        longest = CHARACTERS_PER_TOKEN * max(max_tokens, 1)
        blocks = [block[:longest] for block in blocks]
    for kept in range(len(blocks), 0, -1):
        body = _encode_blocks(encode, blocks[:kept], before, after)
        if max_tokens is None or len(body.token_ids) <= max_tokens:
            return body
    return _fit_words(encode, blocks[0] if blocks else "", max_tokens or 0, before, after)


def _encode_blocks(encode: Between, blocks: Sequence[str], before: str, after: str) -> Observation:
    """The blocks one after the other, without blanks around the whole.

    Each is encoded by itself, so that the codec knows it again when another sample finds the same passage.
    """
    spoken = [n for n, block in enumerate(blocks) if block.strip()]
    if not spoken:
        return Observation("", encode(before, "", after) if before or after else [])
    texts = list(blocks[spoken[0] : spoken[-1] + 1])
    texts[0] = texts[0].lstrip()
    texts[-1] = texts[-1].rstrip()
    texts = [well_formed(text) for text in texts]
    last = len(texts) - 1
    ids = list[int]()
    for n, text in enumerate(texts):
        ids += encode("" if n else before, text, "" if n < last else after)
    return Observation("".join(texts), ids)


def _fit_words(encode: Between, text: str, max_tokens: int, before: str, after: str) -> Observation:
    body = _encode_blocks(encode, [text], before, after)
    while len(body.token_ids) > max_tokens and body.text:
        # Proportional, and always shorter than before, so that it ends.
        keep = min(len(body.text) - 1, len(body.text) * max_tokens // len(body.token_ids))
        cut = body.text[: max(keep, 0)]
        at_word = cut.rsplit(None, 1)[0] if " " in cut.strip() else cut
        body = _encode_blocks(encode, [at_word], before, after)
    return body
