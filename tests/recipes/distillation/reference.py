"""The alignment as docs/distillation.md defines it, byte by byte, without regard for time."""

from collections.abc import Sequence

from slime_search.recipes.distillation.alignment import Run


def spans(sizes: Sequence[int]) -> list[set[int]]:
    """The bytes of each token."""
    found, start = [], 0
    for size in sizes:
        found.append(set(range(start, start + size)))
        start += size
    return found


def joined(runs: Sequence[Run]) -> list[Run]:
    """Runs that follow each other without a gap in either text are one."""
    done: list[Run] = []
    for run in runs:
        if done and sum(done[-1][::2]) == run.student and done[-1].teacher + done[-1].length == run.teacher:
            done[-1] = Run(done[-1].student, done[-1].teacher, done[-1].length + run.length)
        else:
            done.append(run)
    return done


def transfer_by_definition(
    student_sizes: Sequence[int], teacher_sizes: Sequence[int], runs: Sequence[Run], log_probs: Sequence[float]
) -> list[float | None]:
    """Every pair of tokens is compared; blocks are the connected parts of the graph of shared bytes."""
    given: list[float | None] = [None] * len(student_sizes)
    for run in joined(runs):
        of_student, of_teacher = (
            range(run.student, run.student + run.length),
            range(run.teacher, run.teacher + run.length),
        )
        students = {i: {b - run.student for b in own if b in of_student} for i, own in enumerate(spans(student_sizes))}
        teachers = {j: {b - run.teacher for b in own if b in of_teacher} for j, own in enumerate(spans(teacher_sizes))}
        pairs = {(i, j) for i in students for j in teachers if students[i] & teachers[j]}
        whole = {("s", i) for i in students if len(students[i]) == student_sizes[i]}
        whole |= {("t", j) for j in teachers if len(teachers[j]) == teacher_sizes[j]}
        for i in students:
            part = {("s", i)}
            while grown := {x for a, b in pairs for x in (("s", a), ("t", b)) if {("s", a), ("t", b)} & part} - part:
                part |= grown
            if part <= whole and len(part) > 1:
                mine = [j for j in teachers if (i, j) in pairs]
                given[i] = sum(log_probs[j] / sum((k, j) in pairs for k in students) for j in mine)
    return given
