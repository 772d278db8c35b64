"""A policy's tokenizer and template, and what it says in a conversation."""

import json
from typing import Any

from slime_search.core.engine import Finish
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Ending, Owner, Segment, Trajectory
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.tool_calls import MARKUP, SEARCH_MANY_TOOL, ToolCallDialect

TOOLS = (SEARCH_MANY_TOOL,)
ASKED = [{"role": "user", "content": "Who made thing-7?"}]


def call(query: Any) -> str:
    function = {"name": "search", "arguments": {"query": query}}
    return f"<tool_call>\n{json.dumps(function, ensure_ascii=False)}\n</tool_call>"


class Student:
    """A policy's tokenizer and what it says."""

    def __init__(self, tokenizer: Any, **template_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, [tool.schema for tool in TOOLS], template_kwargs)
        self.codec = TokenCodec(tokenizer, MARKUP)
        self.dialect = ToolCallDialect(TOOLS, self.template)

    @property
    def end(self) -> str:
        return self.template.frame.turn_end

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def says(self, ids: list[int]) -> Segment:
        return Segment(Owner.MODEL, ids, self.tokenizer.decode(ids), [-1.0] * len(ids), Finish.STOP)

    def reads(self, *texts: str, after: Segment) -> Segment:
        seen = self.dialect.tool_messages(self.codec, texts, turn_ids=after.token_ids)
        return Segment(Owner.WORLD, seen.token_ids, seen.text, [0.0] * len(seen.token_ids), results=seen.results)

    def talk(self, *turns: str) -> list[Segment]:
        """The turns, each followed by a passage, but for the last."""
        segments: list[Segment] = []
        for number, turn in enumerate(turns):
            segments.append(self.says(self.encode(turn)))
            if number + 1 < len(turns):
                segments.append(self.reads(f"Doc 1 says {number}", after=segments[-1]))
        return segments

    def prompt_ids(self) -> list[int]:
        return self.codec.trusted(self.template.prompt(ASKED))

    def trajectory(self, *turns: str) -> Trajectory:
        """An answered one."""
        whole = Trajectory(self.prompt_ids())
        for segment in self.talk(*turns):
            whole.append(segment)
        whole.end(Ending.ANSWERED, answer="")
        return whole
