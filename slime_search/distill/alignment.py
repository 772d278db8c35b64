"""From the log-probabilities of one tokenization to those of another, by the bytes that both stand for.

Two tokenizers cut the same bytes in two ways. Within a *run* of equal bytes, the *blocks* are the stretches between one
place where both cut and the next. A block's text is the same event for both models, so its log-probability may change
hands: that of each of its teacher's tokens is divided equally among the student's tokens that it shares bytes with,

    log q̂_i = Σ_j log q_j / n_j,    j: teacher's tokens that share a byte with student's token i,
                                    n_j: student's tokens that share a byte with teacher's token j,

which leaves the block's sum as it was. docs/distillation.md has the whole definition, and a picture.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
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
        shares = _shares(student.ends, teacher.ends, [log_probs[place] for place in teacher.places])
        for place, share in zip(student.places, shares, strict=True):
            given[place] = share
    return given


class _Stretch(NamedTuple):
    """Tokens that follow each other: their places, and where the first begins and each ends, in bytes of the run.

    Where there are none, there is one cut at most.
    """

    places: Sequence[int]
    cuts: Sequence[int]

    @property
    def ends(self) -> Sequence[int]:
        return self.cuts[1:]

    def between(self, first: int, last: int) -> "_Stretch":
        """From one of the cuts to another."""
        begin, end = bisect_left(self.cuts, first), bisect_left(self.cuts, last)
        return _Stretch(self.places[begin:end], self.cuts[begin : end + 1])


def _between_common_cuts(student: _Stretch, teacher: _Stretch) -> tuple[_Stretch, _Stretch]:
    """What lies between the first and the last place where both cut: all the blocks of the run."""
    common = set(student.cuts).intersection(teacher.cuts)
    if not common:
        return _Stretch((), ()), _Stretch((), ())
    first, last = min(common), max(common)
    return student.between(first, last), teacher.between(first, last)


def _shares(student_ends: Sequence[int], teacher_ends: Sequence[int], log_probs: Sequence[float]) -> list[float]:
    """What each of the student's tokens gets, where both begin and end at the same bytes."""
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
            for place in range(first, last + 1):
                shares[place] += share
        first = last + 1 if student_ends[last] == end else last
    return shares


class _Tokens:
    """Tokens one after the other in a text, asked for by ascending stretches."""

    def __init__(self, sizes: Sequence[int]) -> None:
        # A token without bytes shares none.
        self._places = [place for place, size in enumerate(sizes) if size]
        self._cuts = [0, *accumulate(sizes[place] for place in self._places)]

    def inside(self, start: int, length: int) -> _Stretch:
        """Those that lie wholly in this stretch of bytes."""
        first = bisect_left(self._cuts, start)
        past = bisect_left(self._cuts, start + length + 1, lo=first)
        return _Stretch(self._places[first : max(past - 1, 0)], [cut - start for cut in self._cuts[first:past]])


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
