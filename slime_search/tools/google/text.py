"""From a page's bytes to the text around a snippet. Runs in worker processes, so it imports little of the package."""

import codecs
import io
import re
from collections.abc import Sequence

import trafilatura
from charset_normalizer import from_bytes

_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{2,40})""", re.IGNORECASE)
_HEAD_BYTES = 4096
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")
_WORD = re.compile(r"\w+")


def text_around(body: bytes, charset: str | None, plain: bool, snippet: str, max_chars: int) -> str:
    """What the page says where the snippet is from, at most ``max_chars`` long; "" where the page does not hold it."""
    page = decode(body, charset)
    text = page if plain else str(trafilatura.extract(page, include_comments=False, fast=True) or "")
    return select(text.splitlines(), snippet, max_chars)


def decode(body: bytes, charset: str | None) -> str:
    """Text by its byte order mark, else UTF-8 where it is that, else by the header, the page itself, or a guess."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body.decode(encoding, errors="replace")
    declared = _META_CHARSET.search(body[:_HEAD_BYTES])
    # Hardly any text of another charset is valid UTF-8 by chance, and many a header is wrong.
    for name in ("utf-8", charset, declared[1].decode() if declared else None):
        if name and (text := _strictly(body, name)) is not None:
            return text
    guess = from_bytes(body).best()
    return str(guess) if guess else body.decode("utf-8", errors="replace")


def select(paragraphs: Sequence[str], snippet: str, max_chars: int) -> str:
    """The paragraphs, or sentences of long ones, that share most words with the snippet, in the page's order."""
    wanted = _words(snippet)
    pieces = [piece for paragraph in paragraphs for piece in _pieces(paragraph.strip(), max_chars)]
    shared = [len(wanted & _words(piece)) for piece in pieces]
    best = max(shared, default=0)
    if not wanted or best * 3 < len(wanted):
        return ""
    chosen: list[int] = []
    room = max_chars
    for index in sorted(range(len(pieces)), key=lambda index: -shared[index]):
        if shared[index] * 3 >= best and len(pieces[index]) < room:
            chosen.append(index)
            room -= len(pieces[index]) + 1
    return "\n".join(pieces[index] for index in sorted(chosen))


def _strictly(body: bytes, charset: str) -> str | None:
    try:
        # Python has codecs that are none of text, which unpack archives; this refuses them.
        io.TextIOWrapper(io.BytesIO(), encoding=charset)
        # The end may be cut inside a character.
        return codecs.getincrementaldecoder(charset)().decode(body)
    except (LookupError, ValueError):
        return None


def _pieces(paragraph: str, max_chars: int) -> list[str]:
    if len(paragraph) < max_chars:
        return [paragraph] if paragraph else []
    sentences = _SENTENCE_END.split(paragraph)
    return [sentence[: max_chars - 1] for sentence in sentences if sentence]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
