"""Which bytes of one text are which bytes of another, where the other was made from it."""

import codecs
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from slime_search.distill.alignment import Run


def chained(first: Sequence[Run], second: Sequence[Run]) -> list[Run]:
    """From a text to a third, by way of one in between: ``first`` leads there and ``second`` goes on."""
    found: list[Run] = []
    later = iter(second)
    onward = next(later, None)
    for run in first:
        while onward is not None and onward.student + onward.length <= run.teacher:
            onward = next(later, None)
        while onward is not None and onward.student < run.teacher + run.length:
            start = max(run.teacher, onward.student)
            end = min(run.teacher + run.length, onward.student + onward.length)
            found.append(Run(run.student + start - run.teacher, onward.teacher + start - onward.student, end - start))
            if onward.student + onward.length > run.teacher + run.length:
                break
            onward = next(later, None)
    return found


def readable(data: bytes) -> tuple[str, list[Run]]:
    """``data`` as text, and where the text's UTF-8 is ``data``. What is no UTF-8 reads as U+FFFD and matches nothing.

    A model that samples tokens may write half a character, or stop inside one.
    """
    view = memoryview(data)
    pieces: list[str] = []
    runs: list[Run] = []
    position = size = 0
    while position < len(data):
        try:
            piece, length = codecs.utf_8_decode(view[position:], "strict", True)
            broken = 0
        except UnicodeDecodeError as error:
            length, broken = error.start, error.end - error.start
            piece = codecs.utf_8_decode(view[position : position + length], "strict", True)[0]
        if length:
            runs.append(Run(position, size, length))
        position += length + broken
        size += length
        pieces.append(piece)
        if broken:
            pieces.append("\ufffd")
            size += 3
    return "".join(pieces), runs


def normalised(text: str, got: bytes, normalise: Callable[[str], str]) -> list[Run]:
    """Where ``got``, which a tokenizer made of ``text``, still is ``text``; nowhere if that can't be told.

    Args:
        normalise: what the tokenizer does to a text before it cuts it up, such as composing accents.
    """
    data = text.encode()
    if got == data:
        return [Run(0, 0, len(data))] if data else []
    runs: list[Run] = []
    size = made = 0
    for piece in _with_marks(text):
        own, other = piece.encode(), normalise(piece).encode()
        if own == other:
            runs.append(Run(size, made, len(own)))
        if got[made : made + len(other)] != other:
            return []
        size += len(own)
        made += len(other)
    return runs if made == len(got) else []


def shifted(runs: Iterable[Run], student: int, teacher: int) -> Iterator[Run]:
    """The same runs in texts that begin so many bytes earlier."""
    return (Run(run.student + student, run.teacher + teacher, run.length) for run in runs)


def _with_marks(text: str) -> Iterator[str]:
    """Each character with the marks that combine with it."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not unicodedata.combining(text[place]):
            yield text[start:place]
            start = place
