"""The socket for notations: how a family of models writes its calls and thoughts."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from slime_search.core.call_markup import WrittenCall

Split = tuple[str, list[WrittenCall], str]
"""What stands before the first call, the calls in order, and what stands between and after them."""


class Notation(ABC):
    """How one family writes a turn. A notation reads text and needs no tokenizer, so rewards can have it."""

    name: ClassVar[str]
    """What ``chat.notation`` calls it."""
    marks: ClassVar[tuple[str, ...]] = ()
    """Markup of calls, which no tool text may forge."""
    result_marks: ClassVar[tuple[str, ...]] = ("<tool_response>", "</tool_response>")
    """Markup of results, which only a tool may write."""
    thought: ClassVar[tuple[str, str]] = ("<think>", "</think>")
    """What stands around a thought."""

    ends: ClassVar[tuple[str, ...]] = ()
    """Marks that end a turn, beside those that the template writes at the end of one."""

    values_are_text: ClassVar[bool] = False
    """Whether an argument reads back as text, and as JSON in that text where it was no text."""

    @abstractmethod
    def split(self, text: str) -> Split:
        """The calls in ``text``, which is a turn without its thought and its end marker.

        A call that can't be read is one with an ``error`` that says how this family writes it.
        """

    @abstractmethod
    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as this family writes it, without blanks around."""

    def spoken(self, turn: str) -> str | None:
        """``turn`` without its thought, None if that is open. The thought's first mark may stand in the prompt."""
        opening, closing = self.thought
        if closing in turn:
            return turn.partition(closing)[2]
        return None if opening in turn else turn

    def is_tidy(self, turn: str) -> bool:
        """Whether there is at most one thought, closed and at the beginning."""
        spoken = self.spoken(turn)
        return spoken is not None and not any(mark in spoken for mark in self.thought) and self._thoughts(turn) <= 1

    def _thoughts(self, turn: str) -> int:
        return turn.count(self.thought[0])

    def form(self, name: str, argument: str) -> str:
        """How a call of that function is to be written, for the sentence that corrects one."""
        return self.write(name, {argument: "…"})


class Blocks(Notation):
    """A notation whose calls stand between an opening and a closing mark."""

    opening: ClassVar[str]
    closing: ClassVar[str]
    around: ClassVar[tuple[str, ...]] = ()
    """Marks around all calls of a turn, which say nothing by themselves."""
    inside: ClassVar[tuple[str, ...]] = ()
    """Marks that stand in a call only. Outside of one they are a call without its opening or closing mark."""

    @abstractmethod
    def read(self, body: str) -> list[WrittenCall]:
        """The calls between one pair of marks, at least one."""

    def split(self, text: str) -> Split:
        first = self._mark.search(text)
        if first is None:
            return text, [], ""
        before, rest = text[: first.start()], text[first.start() :]
        calls = [call for body in self._block.findall(rest) for call in self.read(body)]
        after = self._block.sub("", rest)
        for mark in self.around:
            after = after.replace(mark, "")
        if self._mark.search(after) or not calls:
            calls.append(WrittenCall("", {}, f"{self.opening} and {self.closing} must come in pairs around a call"))
        return before, calls, after

    @cached_property
    def _block(self) -> re.Pattern[str]:
        return re.compile(f"{re.escape(self.opening)}(.*?){re.escape(self.closing)}", re.DOTALL)

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        marks = (*self.around, self.opening, self.closing, *self.inside)
        return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))


def json_call(name: str, arguments: str, form: str, call_id: str = "") -> WrittenCall:
    """A call whose arguments are the text of a JSON object; ``form`` shows how it is written."""
    try:
        value = json.loads(arguments)
    except ValueError as error:
        return WrittenCall(name, {}, f"a call must be written {form}, with a JSON object ({error})", call_id)
    except RecursionError:
        return WrittenCall(name, {}, f"a call must be written {form}, with a JSON object (nested too deeply)", call_id)
    if not isinstance(value, dict):
        return WrittenCall(name, {}, f"a call must be written {form}, with a JSON object", call_id)
    return WrittenCall(name, value, None, call_id)


def in_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_text(value: Any) -> str:
    """A value where a notation writes texts as they are and all else as JSON."""
    return value if isinstance(value, str) else in_json(value)


def without_line_ends(text: str) -> str:
    """``text`` without the one line end before and after it that a template puts around a value."""
    return text.removeprefix("\n").removesuffix("\n")


def json_objects(text: str) -> Sequence[Any] | None:
    """The JSON values in ``text``, with blanks, commas or semicolons between them; None if it holds anything else."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return None
        found.append(value)
        while position < len(text) and text[position] in " \t\r\n;,":
            position += 1
    return found
