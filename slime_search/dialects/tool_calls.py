"""OpenAI-style function calls: the model writes them in its family's notation, results come back as tool messages."""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, WrittenCall
from slime_search.core.dialect import (
    END_MARKER,
    NO_RESULTS,
    Action,
    Answer,
    CallTools,
    Invalid,
    Observation,
    ToolCall,
)
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Owner, Segment
from slime_search.dialects.appending import Answered, append_results
from slime_search.dialects.chat_frame import LAST_ID, NEXT_ID, ChatFrame, ChatTemplate, Message
from slime_search.dialects.notations import HERMES, Notation
from slime_search.errors import ConfigError

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ANSWER_MARK = re.compile(r"</?answer>")
_END = re.compile(rf"({END_MARKER.pattern}|<[|｜][^<>]*[|｜]>)\s*\Z")
"""A control token at the end, of whatever name: ``<|end|>``, ``<｜end▁of▁sentence｜>``."""
_LONGEST_END = 64
"""Characters of one with the blanks after it."""

MARKUP = (CALL_OPEN, CALL_CLOSE, RESULT_OPEN, RESULT_CLOSE, "<think>", "</think>", "<answer>", "</answer>")
"""What no tool text may forge, whatever the model's notation."""


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function with one string argument, as the model is told of it.

    ``takes_lists``: the argument may be a list of strings, too. Each is a call of its own, and one message answers all.
    """

    name: str
    description: str
    argument: str = "query"
    argument_description: str = "What to search for."
    takes_lists: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's JSON."""
        one: dict[str, Any] = {"type": "string"}
        kind = {"anyOf": [one, {"type": "array", "items": one}]} if self.takes_lists else one
        argument = {**kind, "description": self.argument_description}
        parameters = {"type": "object", "properties": {self.argument: argument}, "required": [self.argument]}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


SEARCH_TOOL = FunctionTool("search", "Searches an encyclopedia and returns the passages that match best.")
SEARCH_MANY_TOOL = replace(
    SEARCH_TOOL, argument_description="What to search for: one query, or a list of several.", takes_lists=True
)


CALLS_A_TURN = 8
"""Calls of one turn that are carried out; a policy that learned to call hundreds would pay for none of them."""


class ToolCallFormat:
    """The meaning of a turn: calls, or an answer. Needs no tokenizer, so rewards can have it."""

    def __init__(self, tools: Sequence[FunctionTool], notation: Notation = HERMES) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.notation = notation

    @property
    def _inside(self) -> tuple[str, ...]:
        return (*self.notation.marks, *self.notation.thought)

    def reading(self, notation: Notation) -> "ToolCallFormat":
        """The same functions, called in another notation."""
        other = copy.copy(self)
        other.notation = notation
        return other

    def parse(self, turn: str) -> Action:
        """The action of ``turn``.

        A turn with calls calls; a turn without them answers, with the text between ``<answer>`` tags if there is one
        such pair, else with all that is not thought. A turn that writes a tool's result itself is invalid, and so is
        one whose calls are all malformed, or with several answers.
        """
        spoken = self.notation.spoken(self.without_end(turn))
        if spoken is None:
            return Invalid("the thought is not closed")
        if fabricated := next((mark for mark in self.notation.result_marks if mark in spoken), None):
            return Invalid(f"the turn writes {fabricated}, which only a tool may")
        before, written, _ = self.notation.split(spoken)
        if written:
            calls = self._checked(written)
            errors = [call.error for call in calls if call.error]
            return Invalid("; ".join(dict.fromkeys(errors))) if len(errors) == len(calls) else CallTools(calls)
        marks = len(_ANSWER_MARK.findall(before))
        tagged = _ANSWER.search(before)
        if marks and (marks != 2 or tagged is None):
            return Invalid(f"the turn holds {marks} answer tags, not one opening and one closing")
        answer = (tagged[1] if tagged else before).strip()
        return Answer(answer) if answer else Invalid("the turn is empty")

    def is_well_formed(self, turn: str) -> bool:
        """At most one thought, at the beginning; then calls with nothing amiss or after them, or an answer."""
        turn = self.without_end(turn)
        spoken = self.notation.spoken(turn)
        if spoken is None or not self.notation.is_tidy(turn):
            return False
        match self.parse(turn):
            case CallTools(calls):
                return all(call.error is None for call in calls) and not self.notation.split(spoken)[2].strip()
            case Answer():
                return True
        return False

    def without_end(self, turn: str) -> str:
        """``turn`` without the control tokens that end it."""
        while (end := _END.search(turn, max(len(turn) - _LONGEST_END, 0))) and (
            end[1] in self.notation.ends or end[1] not in self._inside
        ):
            turn = turn[: end.start()]
        return turn

    def _checked(self, written: Sequence[WrittenCall]) -> tuple[ToolCall, ...]:
        """One call for each query; a written call that can't be carried out is one call with an error."""
        calls: list[ToolCall] = []
        for call in written:
            error = call.error or self._mistake(call)
            queries = [] if error else self._queries(call)
            if len(calls) + max(len(queries), 1) > CALLS_A_TURN:
                error = f"a turn may hold {CALLS_A_TURN} calls at most"
            if error:
                calls.append(ToolCall(call.name, "", error, call_id=call.call_id))
            else:
                calls += (
                    ToolCall(call.name, q, joins_last=place > 0, call_id=call.call_id)
                    for place, q in enumerate(queries)
                )
        return tuple(calls)

    def _queries(self, call: WrittenCall) -> list[str]:
        """What is asked for, without blanks around it, once each."""
        value = self._value(call, self._tools[call.name])
        return list(dict.fromkeys(query.strip() for query in (value if isinstance(value, list) else [value])))

    def _value(self, call: WrittenCall, tool: FunctionTool) -> Any:
        """The argument; a list of texts where the notation writes values as text and this is one in JSON."""
        value = call.arguments.get(tool.argument)
        if tool.takes_lists and self.notation.values_are_text and isinstance(value, str):
            try:
                several = json.loads(value)
            except (ValueError, RecursionError):
                return value
            return several if isinstance(several, list) else value
        return value

    def _mistake(self, call: WrittenCall) -> str | None:
        tool = self._tools.get(call.name)
        if tool is None:
            return f"there is no function {call.name!r:.80}; there is {', '.join(self._tools)}"
        value = self._value(call, tool)
        values = value if tool.takes_lists and isinstance(value, list) else [value]
        if (
            set(call.arguments) == {tool.argument}
            and values
            and all(isinstance(one, str) and one.strip() for one in values)
        ):
            return None
        if self.notation is not HERMES:
            or_several = ", or with a list of several in JSON" if tool.takes_lists else ""
            return f"a call of {tool.name} must be {self.notation.form(tool.name, tool.argument)}{or_several}"
        or_several = f' or {{"{tool.argument}": ["…", "…"]}}' if tool.takes_lists else ""
        return f'the arguments of {tool.name} must be {{"{tool.argument}": "…"}}{or_several}'


class ToolCallDialect(ToolCallFormat):
    """Calls and results in a model's own chat markup."""

    stop: tuple[str, ...] = ()

    def __init__(self, tools: Sequence[FunctionTool], template: ChatTemplate) -> None:
        super().__init__(tools, template.notation)
        self.template = template
        self.tags: tuple[str, ...] = tuple(
            dict.fromkeys((*MARKUP, *self.notation.marks, *self.notation.result_marks, *self.notation.thought))
        )

    def observation(
        self,
        codec: TokenCodec,
        action: CallTools,
        results: Sequence[ToolResult],
        max_tokens: int | None = None,
        *,
        turn_ids: Sequence[int] = (),
    ) -> Observation | None:
        """One tool message a call, in the order of the calls, each with an equal share of the room.

        Results of calls that were written as one share a message, each under its query.
        """
        joins = [call.joins_last for call in action.calls]
        of_list = [one or other for one, other in zip(joins, [*joins[1:], False], strict=True)]
        answers = [
            Answered(
                (f"{call.query}:\n", *_said(result)) if listed else _said(result),
                call.tool,
                call.call_id,
                call.joins_last,
            )
            for call, result, listed in zip(action.calls, results, of_list, strict=True)
        ]
        return append_results(codec, self.template.frame, answers, turn_ids, max_tokens)

    def tool_messages(self, codec: TokenCodec, texts: Sequence[str], *, turn_ids: Sequence[int] = ()) -> Observation:
        """What the model reads after the turn of these ids, where one tool message says each of ``texts``."""
        return self._said(codec, self.template.frame, texts, turn_ids)

    def correction(self, codec: TokenCodec, invalid: Invalid, *, turn_ids: Sequence[int] = ()) -> Observation:
        """A tool message that says what was wrong.

        The user says it where a result has to name the id of a call, or where the turn ended as one that answers.
        """
        frame = self.template.frame
        names_ids = any(slot in part for slot in (LAST_ID, NEXT_ID) for part in (frame.opening, frame.closing))
        called = frame.call_end == frame.turn_end or list(turn_ids[-1:]) == codec.trusted(frame.call_end)[-1:]
        if frame.user_opening and (names_ids or not called):
            frame = replace(
                frame,
                call_end=frame.turn_end,
                opening=frame.user_opening,
                closing=frame.user_closing,
                as_json=False,
            )
        return self._said(codec, frame, [f"Error: {invalid.reason}. Try again."], turn_ids)

    def messages(self, prompt: Sequence[Message], segments: Sequence[Segment]) -> list[Message]:
        """The conversation for a server that renders it itself.

        A turn is sent as the text that the model wrote, calls included: taken apart and put together again it would
        come back in other words.

        Raises:
            ConfigError: the template names each call in its result, which it can't where a call is sent as text.
        """
        if self.template.frame.has_slots:
            raise ConfigError(
                "chat template: it writes the name or id of the call before each result, so a server that renders "
                "messages can't be told of calls as the model wrote them",
                "use a server that takes token ids",
            )
        conversation = list(self.template.complete(prompt))
        for segment in segments:
            if segment.owner is Owner.MODEL:
                conversation.append({"role": "assistant", "content": self.without_end(segment.text)})
            elif self.template.frame.tool_role:
                conversation += [{"role": "tool", "content": result} for result in segment.results]
            else:
                results = (f"{RESULT_OPEN}\n{result}\n{RESULT_CLOSE}" for result in segment.results)
                conversation.append({"role": "user", "content": "\n".join(results)})
        return conversation

    def _said(self, codec: TokenCodec, frame: ChatFrame, texts: Sequence[str], turn_ids: Sequence[int]) -> Observation:
        name = next(iter(self._tools), "")
        said = append_results(codec, frame, [Answered((text,), name) for text in texts], turn_ids)
        assert said is not None
        return said


def _said(result: ToolResult) -> tuple[str, ...]:
    return result.blocks or (NO_RESULTS,)
