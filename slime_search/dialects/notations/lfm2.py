"""LFM2: calls as Python writes them, in a list."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Blocks, in_json

_LONE_TEXT = re.compile(r"\s*\[\s*([\w.-]+)\(\s*(\w+)\s*=\s*(['\"])(.*)\3\s*\)\s*\]\s*", re.DOTALL)
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


class Lfm2(Blocks):
    """``<|tool_call_start|>[search(query='…')]<|tool_call_end|>``, several with commas between them.

    Some of its templates write quotes inside a text as they are; a call with one such text is read all the same.
    """

    name = "lfm2"
    opening, closing = "<|tool_call_start|>", "<|tool_call_end|>"
    marks = (opening, closing)
    result_marks = ("<|tool_response_start|>", "<|tool_response_end|>")

    def read(self, body: str) -> list[WrittenCall]:
        try:
            listed = ast.parse(body.strip(), mode="eval").body
            if isinstance(listed, ast.List) and listed.elts:
                return [_call(element) for element in listed.elts]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if (lone := _LONE_TEXT.fullmatch(body)) and "=" + lone[3] not in lone[4]:
                return [WrittenCall(lone[1], {lone[2]: lone[4]})]
        return [WrittenCall("", {}, f"a call must be written {self.form('NAME', 'argument')}")]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        written = ", ".join(f"{key}={_written(value)}" for key, value in arguments.items())
        return f"{self.opening}[{name}({written})]{self.closing}"


def _call(node: ast.expr) -> WrittenCall:
    if not isinstance(node, ast.Call) or node.args or not all(keyword.arg for keyword in node.keywords):
        raise ValueError(node)
    return WrittenCall(ast.unparse(node.func), {str(keyword.arg): _value(keyword.value) for keyword in node.keywords})


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {ast.literal_eval(k): _value(v) for k, v in zip(keys, values, strict=True) if k is not None}
    return ast.literal_eval(node)


def _written(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
        return f"'{escaped}'"
    return in_json(value) if isinstance(value, Mapping | list) else str(value)
