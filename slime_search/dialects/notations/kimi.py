"""Kimi K2: the model numbers its calls, and results name the number."""

import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Blocks, in_json, json_call

_HEAD = re.compile(r"\s*(?:functions\.)?(?P<name>[\w.-]+?):\d+\s*")


class Kimi(Blocks):
    """``<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"query": "…"}<|tool_call_end|>``."""

    name = "kimi"
    opening, closing = "<|tool_call_begin|>", "<|tool_call_end|>"
    around = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
    inside = ("<|tool_call_argument_begin|>",)
    marks = (opening, closing, *around, *inside)
    result_marks = ()

    def read(self, body: str) -> list[WrittenCall]:
        form = f"{self.opening}functions.NAME:0{self.inside[0]}{{…}}{self.closing}"
        head, _, arguments = body.partition(self.inside[0])
        numbered = _HEAD.fullmatch(head)
        if numbered is None:
            return [WrittenCall("", {}, f"a call must be written {form}")]
        return [json_call(numbered["name"], arguments, form, head.strip())]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        call = f"{self.opening}functions.{name}:0{self.inside[0]}{in_json(dict(arguments))}{self.closing}"
        return f"{self.around[0]}{call}{self.around[1]}"
