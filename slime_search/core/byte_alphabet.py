"""The alphabet in which byte-level BPE writes bytes."""


def byte_alphabet() -> dict[str, int]:
    """From each of the 256 characters to the byte that it stands for.

    GPT-2's: a byte that Latin-1 shows as a visible character is that character, and the others, in order, are the
    characters from U+0100 on. So ``"A"`` is 65, ``"é"`` is 0xE9, and ``"Ġ"`` (U+0120) is the blank.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (byte for byte in range(0x100) if byte not in visible)
    return {chr(byte): byte for byte in visible} | {chr(0x100 + rank): byte for rank, byte in enumerate(hidden)}


BYTE_OF = byte_alphabet()


def token_bytes(token: str) -> bytes:
    """What a token of byte-level BPE stands for, as its own decoder has it.

    "ĠnaÃ¯ve" is in the alphabet: its characters are the bytes of " naïve". A token with a character outside of it, such
    as the added token "東京", is its own text.
    """
    written = all(character in BYTE_OF for character in token)
    return bytes(BYTE_OF[character] for character in token) if written else token.encode()
