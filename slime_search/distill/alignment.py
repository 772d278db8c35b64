"""From the log-probabilities of one tokenization to those of another, by the bytes that both stand for.

Two tokenizers cut the same bytes in two ways. Within a *run* of equal bytes, the *blocks* are the stretches between one
place where both cut and the next. A block's text is the same event for both models, so its log-probability may change
hands: that of each of its teacher's tokens is divided equally among the student's tokens that it shares bytes with,

    log q̂_i = Σ_j log q_j / n_j,    j: teacher's tokens that share a byte with student's token i,
                                    n_j: student's tokens that share a byte with teacher's token j,

which leaves the block's sum as it was. docs/distillation.md has the whole definition, and a picture.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple


class Run(NamedTuple):
    """``length`` equal bytes: from byte ``student`` of one text, and from byte ``teacher`` of the other."""

    student: int
    teacher: int
    length: int


class Block(NamedTuple):
    """Tokens that stand for the same bytes: the ``student_tokens`` and ``teacher_tokens`` by their places.

    All of them stand for at least one byte. ``student_ends`` and ``teacher_ends`` say where each of them ends, in bytes
    from the beginning of the run.
    """

    student_tokens: Sequence[int]
    teacher_tokens: Sequence[int]
    student_ends: Sequence[int]
    teacher_ends: Sequence[int]


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
    for block in blocks(student_sizes, teacher_sizes, runs):
        if len(block.student_tokens) == len(block.teacher_tokens) == 1:
            given[block.student_tokens[0]] = log_probs[block.teacher_tokens[0]]
            continue
        shares = [0.0] * len(block.student_tokens)
        for (first, last), teacher_token in zip(_overlaps(block), block.teacher_tokens, strict=True):
            share = log_probs[teacher_token] / (last - first + 1)
            for place in range(first, last + 1):
                shares[place] += share
        for student_token, log_prob in zip(block.student_tokens, shares, strict=True):
            given[student_token] = log_prob
    return given


def blocks(student_sizes: Sequence[int], teacher_sizes: Sequence[int], runs: Sequence[Run]) -> Iterator[Block]:
    """The blocks of all runs, in order."""
    students, teachers = _Tokens(student_sizes), _Tokens(teacher_sizes)
    for run in _joined(runs):
        yield from _blocks_of_run(
            students.inside(run.student, run.length),
            teachers.inside(run.teacher, run.length),
        )


class _Inside(NamedTuple):
    """Tokens that lie wholly in a run: their places, and where the first begins and each ends, from the run's start.

    Where there is no such token, there is one cut at most.
    """

    places: Sequence[int]
    cuts: Sequence[int]


def _blocks_of_run(student: _Inside, teacher: _Inside) -> Iterator[Block]:
    i = j = 0
    begun: tuple[int, int] | None = None
    while i < len(student.cuts) and j < len(teacher.cuts):
        if student.cuts[i] < teacher.cuts[j]:
            i += 1
        elif student.cuts[i] > teacher.cuts[j]:
            j += 1
        else:
            if begun is not None:
                from_i, from_j = begun
                yield Block(
                    student.places[from_i:i],
                    teacher.places[from_j:j],
                    student.cuts[from_i + 1 : i + 1],
                    teacher.cuts[from_j + 1 : j + 1],
                )
            begun = i, j
            i += 1
            j += 1


def _overlaps(block: Block) -> Iterator[tuple[int, int]]:
    """For each of the teacher's tokens the first and last of the student's that share a byte with it, by place.

    Both cut at the block's end, so there always is a last one.
    """
    first = 0
    for end in block.teacher_ends:
        last = first
        while block.student_ends[last] < end:
            last += 1
        yield first, last
        first = last + 1 if block.student_ends[last] == end else last


class _Tokens:
    """Tokens one after the other in a text, asked for by ascending stretches."""

    def __init__(self, sizes: Sequence[int]) -> None:
        # A token without bytes shares none.
        self._places = [place for place, size in enumerate(sizes) if size]
        self._cuts = [0, *accumulate(sizes[place] for place in self._places)]
        self._next = 0

    def inside(self, start: int, length: int) -> _Inside:
        cuts, first = self._cuts, self._next
        while first < len(cuts) and cuts[first] < start:
            first += 1
        last = first
        while last < len(cuts) and cuts[last] <= start + length:
            last += 1
        # The last cut may be where the next stretch begins.
        self._next = max(last - 1, first)
        return _Inside(self._places[first : max(last - 1, 0)], [cut - start for cut in cuts[first:last]])


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
