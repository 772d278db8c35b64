"""Tool calls of a student before a teacher that writes them in another notation."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.chat_frame import ChatTemplate

_LANDMARK: Mapping[str, Any] = {"name": "landmark", "arguments": {"query": "Landmark called"}}


class Piece(NamedTuple):
    """Text that the teacher reads, and where in the student's turn it stands, in characters; None where nowhere."""

    text: str
    at: int | None


class CallNotation:
    """How calls of the student are put before the teacher.

    Where both templates write a call alike, a turn is shown as it is. Else the teacher reads its own notation, since it
    would find the student's unlikely from the first brace on and teach it out of it; the student is taught the name and
    the texts of the arguments, and nothing about the notation around them.
    """

    def __init__(self, student: ChatTemplate, teacher: ChatTemplate) -> None:
        self._student, self._teacher = student.notation, teacher
        self._alike = student.call(**_LANDMARK) == teacher.call(**_LANDMARK)

    def pieces(self, turn: str) -> list[Piece]:
        """What the teacher reads of ``turn``, which has no end marker."""
        if self._alike:
            return [Piece(turn, 0)]
        _, closed, said = turn.partition("</think>")
        if "<think>" in turn and not closed:
            # What looks like a call is still a thought.
            return [Piece(turn, 0)]
        spoken = len(turn) - len(said) if closed else 0
        before, calls, _ = self._student.split(turn[spoken:])
        if not calls:
            return [Piece(turn, 0)]
        start = spoken + len(before)
        pieces = [Piece(turn[:start], 0)]
        if any(call.error for call in calls):
            # A call that can't be read can't be said in other words.
            return [*pieces, Piece(turn[start:], None)]
        for call in calls:
            for piece in _translated(call, self._teacher.call(call.name, call.arguments), turn, start):
                pieces.append(piece)
                start = start if piece.at is None else piece.at + len(piece.text)
        return pieces


def _translated(call: WrittenCall, written: str, turn: str, start: int) -> Iterator[Piece]:
    """``written`` in pieces: name and texts, where they stand in ``turn`` from ``start`` on, and what is between."""
    position = 0
    for text in (call.name, *_texts(call.arguments)):
        for spelling in dict.fromkeys((_in_json(text, False), _in_json(text, True), text)):
            here, there = _find(spelling, turn, start), _find(spelling, written, position)
            if spelling and here >= 0 and there >= 0:
                yield Piece(written[position:there], None)
                yield Piece(spelling, here)
                start, position = here + len(spelling), there + len(spelling)
                break
    yield Piece(written[position:], None)


def _find(spelling: str, text: str, start: int) -> int:
    """Where it stands from ``start`` on: as a whole JSON string, or else anywhere, such as in a key or another text."""
    quoted = text.find(f'"{spelling}"', start)
    return quoted + 1 if quoted >= 0 else text.find(spelling, start)


def _texts(value: Any) -> Iterator[str]:
    """Every text in the arguments, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _in_json(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


THOUGHT_OPEN, THOUGHT_CLOSE = "<think>\n", "\n</think>\n\n"
_OPENING = re.compile(r"\s*<think>\n?")


def with_thought(pieces: list[Piece], *, student_is_thinking: bool, teacher_is_thinking: bool) -> list[Piece]:
    """The pieces for a teacher whose prompt opens the thought and the student's does not, or the other way round."""
    if student_is_thinking == teacher_is_thinking:
        return pieces
    if student_is_thinking:
        return [Piece(THOUGHT_OPEN, None), *pieces]
    first = pieces[0]
    if (opening := _OPENING.match(first.text)) and first.at is not None:
        return [Piece(first.text[opening.end() :], first.at + opening.end()), *pieces[1:]]
    return [Piece(THOUGHT_CLOSE, None), *pieces]
