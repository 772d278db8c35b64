"""OpenAI-style function calls: the model writes ``<tool_call>`` blocks, results come back as tool messages."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, WrittenCall, split_calls
from slime_search.core.dialect import END_MARKER, Action, Answer, CallTools, Invalid, Observation, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Owner, Segment
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.dialects.cutting import fit_blocks

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ANSWER_MARK = re.compile(r"</?answer>")
_FABRICATED = re.compile(rf"</?{RESULT_OPEN[1:-1]}>")
_OTHER_END = re.compile(r"(?:<[|｜][^<>]*[|｜]>\s*)+\Z")
"""A control token at the end, of whatever name: ``<|end|>``, ``<｜end▁of▁sentence｜>``."""
_THOUGHT_END = "</think>"
_THOUGHT_MARK = re.compile(r"</?think>")

MARKUP = (CALL_OPEN, CALL_CLOSE, RESULT_OPEN, RESULT_CLOSE, "<think>", "</think>", "<answer>", "</answer>")
"""What no tool text may forge."""

_JOINT = "\n\n"
"""Between the results of one list of queries."""


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

    def __init__(self, tools: Sequence[FunctionTool]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def parse(self, turn: str) -> Action:
        """The action of ``turn``.

        A turn with calls calls; a turn without them answers, with the text between ``<answer>`` tags if there is one
        such pair, else with all that is not thought. A turn that writes a tool's result itself is invalid, and so is
        one whose calls are all malformed, or with several answers.
        """
        spoken = _spoken(turn)
        if spoken is None:
            return Invalid("the thought is not closed")
        if fabricated := _FABRICATED.search(spoken):
            return Invalid(f"the turn writes {fabricated.group()}, which only a tool may")
        before, written, _ = split_calls(spoken)
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
        spoken = _spoken(turn)
        if spoken is None or _THOUGHT_MARK.search(spoken) or turn.count("<think>") > 1:
            return False
        match self.parse(turn):
            case CallTools(calls):
                return all(call.error is None for call in calls) and not split_calls(spoken)[2].strip()
            case Answer():
                return True
        return False

    def _checked(self, written: Sequence[WrittenCall]) -> tuple[ToolCall, ...]:
        """One call for each query; a written call that can't be carried out is one call with an error."""
        calls: list[ToolCall] = []
        for call in written:
            error = call.error or self._mistake(call)
            queries = [] if error else self._queries(call)
            if len(calls) + max(len(queries), 1) > CALLS_A_TURN:
                error = f"a turn may hold {CALLS_A_TURN} calls at most"
            if error:
                calls.append(ToolCall(call.name, "", error))
            else:
                calls += (ToolCall(call.name, q, joins_last=place > 0) for place, q in enumerate(queries))
        return tuple(calls)

    def _queries(self, call: WrittenCall) -> list[str]:
        """What is asked for, without blanks around it, once each."""
        value = call.arguments[self._tools[call.name].argument]
        return list(dict.fromkeys(query.strip() for query in (value if isinstance(value, list) else [value])))

    def _mistake(self, call: WrittenCall) -> str | None:
        tool = self._tools.get(call.name)
        if tool is None:
            return f"there is no function {call.name!r:.80}; there is {', '.join(self._tools)}"
        value = call.arguments.get(tool.argument)
        values = value if tool.takes_lists and isinstance(value, list) else [value]
        if (
            set(call.arguments) == {tool.argument}
            and values
            and all(isinstance(one, str) and one.strip() for one in values)
        ):
            return None
        or_several = f' or {{"{tool.argument}": ["…", "…"]}}' if tool.takes_lists else ""
        return f'the arguments of {tool.name} must be {{"{tool.argument}": "…"}}{or_several}'


class ToolCallDialect(ToolCallFormat):
    """Calls and results in a model's own chat markup."""

    stop: tuple[str, ...] = ()
    tags: tuple[str, ...] = MARKUP

    def __init__(self, tools: Sequence[FunctionTool], template: ChatTemplate) -> None:
        super().__init__(tools)
        self.template = template

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
        frame = self._frame(codec, joins, turn_ids)
        room = None if max_tokens is None else max_tokens - sum(len(ids) for _, ids in frame)
        if room is not None and room < 0:
            return None
        share = None if room is None else room // len(results)
        of_list = [one or other for one, other in zip(joins, [*joins[1:], False], strict=True)]
        bodies = [
            self._body(codec, (f"{call.query}:\n", *_said(result)) if listed else _said(result), share)
            for call, result, listed in zip(action.calls, results, of_list, strict=True)
        ]
        return _interleaved(frame, bodies, joins)

    def tool_messages(self, codec: TokenCodec, texts: Sequence[str], *, turn_ids: Sequence[int] = ()) -> Observation:
        """What the model reads after the turn of these ids, where one tool message says each of ``texts``."""
        joins = [False] * len(texts)
        bodies = [self._body(codec, (text,), None) for text in texts]
        return _interleaved(self._frame(codec, joins, turn_ids), bodies, joins)

    def correction(self, codec: TokenCodec, invalid: Invalid, *, turn_ids: Sequence[int] = ()) -> Observation:
        """A tool message that says what was wrong."""
        return self.tool_messages(codec, [f"Error: {invalid.reason}. Try again."], turn_ids=turn_ids)

    def messages(self, prompt: Sequence[Message], segments: Sequence[Segment]) -> list[Message]:
        """The conversation for a server that renders it itself.

        A turn is sent as the text that the model wrote, calls included: taken apart and put together again it would
        come back in other words.
        """
        conversation = list(self.template.complete(prompt))
        for segment in segments:
            if segment.owner is Owner.MODEL:
                conversation.append({"role": "assistant", "content": _without_end(segment.text)})
            elif self.template.frame.tool_role:
                conversation += [{"role": "tool", "content": result} for result in segment.results]
            else:
                results = (f"{RESULT_OPEN}\n{result}\n{RESULT_CLOSE}" for result in segment.results)
                conversation.append({"role": "user", "content": "\n".join(results)})
        return conversation

    def _body(self, codec: TokenCodec, blocks: Sequence[str], max_tokens: int | None) -> Observation:
        if not self.template.frame.as_json:
            body = fit_blocks(codec.untrusted, blocks, max_tokens)
            return Observation(body.text, body.token_ids, (body.text,))
        body = fit_blocks(lambda text: codec.untrusted(_in_json(text)), blocks, max_tokens)
        return Observation(_in_json(body.text), body.token_ids, (body.text,))

    def _frame(self, codec: TokenCodec, joins: Sequence[bool], turn_ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """What stands before, between and after the results, as text and as token ids."""
        frame = self.template.frame
        end_ids = codec.trusted(frame.turn_end)
        closed = list(turn_ids[-len(end_ids) :]) == end_ids
        opening = frame.opening if closed else frame.turn_end + frame.opening
        joint = _in_json(_JOINT) if frame.as_json else _JOINT
        between = (joint if joined else frame.between for joined in joins[1:])
        return [(text, codec.trusted(text)) for text in (opening, *between, frame.closing)]


def _spoken(turn: str) -> str | None:
    """``turn`` without its end marker and thought, None if that is open. Its first tag may stand in the prompt."""
    turn = _without_end(turn)
    if _THOUGHT_END in turn:
        return turn.partition(_THOUGHT_END)[2]
    return None if "<think>" in turn else turn


def _without_end(turn: str) -> str:
    return _OTHER_END.sub("", END_MARKER.sub("", turn))


def _said(result: ToolResult) -> tuple[str, ...]:
    return result.blocks or ("No results.",)


def _in_json(text: str) -> str:
    """``text`` as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _interleaved(
    frame: Sequence[tuple[str, list[int]]], bodies: Sequence[Observation], joins: Sequence[bool]
) -> Observation:
    text, ids = frame[0][0], list(frame[0][1])
    results: list[str] = []
    for body, joined, (after_text, after_ids) in zip(bodies, joins, frame[1:], strict=True):
        text += body.text + after_text
        ids += [*body.token_ids, *after_ids]
        if joined:
            results[-1] = _JOINT.join((results[-1], *body.results))
        else:
            results += body.results
    return Observation(text, ids, tuple(results))
