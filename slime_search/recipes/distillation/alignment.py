"""From the log-probabilities of one tokenization to those of another, by the bytes that both stand for.

Two tokenizers cut the same bytes in two ways. Within a *run* of equal bytes, the *blocks* are the stretches between one
place where both cut and the next. A block's text is the same event for both models, so its log-probability may change
hands: that of each of its teacher's tokens is divided equally among the student's tokens that it shares bytes with,

    log q̂_i = Σ_j log q_j / n_j,    j: teacher's tokens that share a byte with student's token i,
                                    n_j: student's tokens that share a byte with teacher's token j,

which leaves the block's sum as it was. docs/distillation.md has the whole definition, and a picture.
"""

import codecs
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple


class Run(NamedTuple):
    """``length`` equal bytes: from byte ``student`` of one text, and from byte ``teacher`` of the other."""

    student: int
    teacher: int
    length: int


def transfer(
    student_sizes: Sequence[int], teacher_sizes: Sequence[int], runs: Sequence[Run], log_probs: Sequence[float]
) -> list[float | None]:
    """The teacher's log-probabilities, one for each of the student's tokens; None where a token aligns with nothing.

    Takes time in proportion to the number of tokens and runs.

    Args:
        student_sizes: bytes of each of the student's tokens, which lie one after the other; 0 for a special token.
        teacher_sizes: the same of the teacher's.
        runs: where the two texts agree, in ascending order in both and without overlap.
        log_probs: one for each of the teacher's tokens.
    """
    given: list[float | None] = [None] * len(student_sizes)
    students, teachers = _Tokens(student_sizes), _Tokens(teacher_sizes)
    for run in _joined(runs):
        student, teacher = _between_common_cuts(
            students.inside(run.student, run.length), teachers.inside(run.teacher, run.length)
        )
        shares = _shares(student.ends, teacher.ends, [log_probs[index] for index in teacher.indices])
        for index, share in zip(student.indices, shares, strict=True):
            given[index] = share
    return given


class _Stretch(NamedTuple):
    """Tokens that follow each other: their indices, and where the first begins and each ends, in bytes of the run.

    Where there are none, there is one cut at most.
    """

    indices: Sequence[int]
    cuts: Sequence[int]

    @property
    def ends(self) -> Sequence[int]:
        return self.cuts[1:]

    def between(self, first: int, last: int) -> "_Stretch":
        """From one of the cuts to another."""
        begin, end = bisect_left(self.cuts, first), bisect_left(self.cuts, last)
        return _Stretch(self.indices[begin:end], self.cuts[begin : end + 1])


def _between_common_cuts(student: _Stretch, teacher: _Stretch) -> tuple[_Stretch, _Stretch]:
    """What lies between the first and the last place where both cut: all the blocks of the run."""
    common = set(student.cuts).intersection(teacher.cuts)
    if not common:
        return _Stretch((), ()), _Stretch((), ())
    first, last = min(common), max(common)
    return student.between(first, last), teacher.between(first, last)


def _shares(student_ends: Sequence[int], teacher_ends: Sequence[int], log_probs: Sequence[float]) -> list[float]:
    """What each of the student's tokens gets, where both tokenizations begin and end at the same bytes.

    Each teacher's token is divided equally among the student's tokens that it shares bytes with. An example, of the
    six bytes of ``Berlin``:

        student     Ber | lin          ends 3, 6
        teacher     Be | rli | n       ends 2, 5, 6    log-probabilities -1, -4, -3

        Be    lies in ``Ber``                   -1 for ``Ber``
        rli   shares ``r`` with ``Ber`` and
              ``li`` with ``lin``               -2 for each
        n     lies in ``lin``                   -3 for ``lin``

        shares      -3 | -5            their sum is the teacher's, -8

    Args:
        student_ends: where each of the student's tokens ends, in bytes, ascending.
        teacher_ends: the same of the teacher's; the last end is the student's last.
        log_probs: one for each of the teacher's tokens.
    """
    shares = [0.0] * len(student_ends)
    first = 0
    for end, log_prob in zip(teacher_ends, log_probs, strict=True):
        last = first
        while student_ends[last] < end:
            last += 1
        if last == first:
            shares[first] += log_prob
        else:
            share = log_prob / (last - first + 1)
            for index in range(first, last + 1):
                shares[index] += share
        first = last + 1 if student_ends[last] == end else last
    return shares


class _Tokens:
    """Tokens one after the other in a text, asked for by ascending stretches."""

    def __init__(self, sizes: Sequence[int]) -> None:
        # A token without bytes shares none.
        self._indices = [index for index, size in enumerate(sizes) if size]
        self._cuts = [0, *accumulate(sizes[index] for index in self._indices)]

    def inside(self, start: int, length: int) -> _Stretch:
        """Those that lie wholly in this stretch of bytes."""
        first = bisect_left(self._cuts, start)
        past = bisect_left(self._cuts, start + length + 1, lo=first)
        return _Stretch(self._indices[first : max(past - 1, 0)], [cut - start for cut in self._cuts[first:past]])


def _joined(runs: Sequence[Run]) -> Iterator[Run]:
    """The runs, those that go on where another ends as one."""
    held: Run | None = None
    for run in runs:
        if held and held.student + held.length == run.student and held.teacher + held.length == run.teacher:
            held = held._replace(length=held.length + run.length)
            continue
        if held:
            yield held
        held = run
    if held:
        yield held


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
    for end in range(1, len(text) + 1):
        if end == len(text) or not unicodedata.combining(text[end]):
            yield text[start:end]
            start = end
