"""Fits a tool's text into a token budget."""

from collections.abc import Sequence

from slime_search.core.dialect import Observation
from slime_search.core.tokens import Encode, well_formed

# Longer than any token of a real vocabulary, so a text cut to this many characters a token still fills its budget.
CHARACTERS_PER_TOKEN = 64


def fit_blocks(encode: Encode, blocks: Sequence[str], max_tokens: int | None) -> Observation:
    """The longest run of whole leading blocks that fits; if not even the first does, its leading words.

    ``encode`` gives the token ids of text as the context will hold it, which may be escaped; what is cut is the text.
    """
    if max_tokens is not None:
        # A megabyte passage is cut before it is encoded, since encoding it all would stall the event loop.
        longest = CHARACTERS_PER_TOKEN * max(max_tokens, 1)
        blocks = [block[:longest] for block in blocks]
    for kept in range(len(blocks), 0, -1):
        body = _encode_blocks(encode, blocks[:kept])
        if max_tokens is None or len(body.token_ids) <= max_tokens:
            return body
    return _fit_words(encode, blocks[0] if blocks else "", max_tokens or 0)


def _encode_blocks(encode: Encode, blocks: Sequence[str]) -> Observation:
    """The blocks one after the other, without blanks around the whole.

    Each is encoded by itself, so that the codec knows it again when another sample finds the same passage.
    """
    spoken = [n for n, block in enumerate(blocks) if block.strip()]
    if not spoken:
        return Observation("", [])
    texts = list(blocks[spoken[0] : spoken[-1] + 1])
    texts[0] = texts[0].lstrip()
    texts[-1] = texts[-1].rstrip()
    texts = [well_formed(text) for text in texts]
    return Observation("".join(texts), [i for text in texts for i in encode(text)])


def _fit_words(encode: Encode, text: str, max_tokens: int) -> Observation:
    body = _encode_blocks(encode, [text])
    while len(body.token_ids) > max_tokens:
        # Proportional, and always shorter than before, so that it ends.
        keep = min(len(body.text) - 1, len(body.text) * max_tokens // len(body.token_ids))
        cut = body.text[: max(keep, 0)]
        at_word = cut.rsplit(None, 1)[0] if " " in cut.strip() else cut
        body = _encode_blocks(encode, [at_word])
    return body
