"""A token by itself, as text and as bytes: what OpenAI's log-probabilities show of it."""

from functools import lru_cache

from tokenizers import decoders
from transformers import PreTrainedTokenizerBase


class TokenTexts:
    """Text and bytes of single tokens. A token that is part of a character has only its bytes to show."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._byte_level = backend is not None and isinstance(backend.decoder, decoders.ByteLevel)
        self.text = lru_cache(maxsize=2**16)(self._text)
        """The token's text, special tokens included."""
        self.bytes = lru_cache(maxsize=2**16)(self._bytes)
        """The token's bytes, as numbers."""

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _bytes(self, token: int) -> tuple[int, ...]:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if self._byte_level and piece and all(character in _BYTE_OF for character in piece):
            return tuple(_BYTE_OF[character] for character in piece)
        return tuple(self.text(token).encode())


def _bytes_by_character() -> dict[str, int]:
    """Byte-level tokenizers spell a byte as its Latin-1 character, where that one can be seen, and the others, in
    order, as the characters from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(0x100) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + at): byte for at, byte in enumerate(hidden)}


_BYTE_OF = _bytes_by_character()
