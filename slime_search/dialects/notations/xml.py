"""Qwen3-Coder, Qwen3.5, Qwen3.6, Nemotron 3: a function and its parameters as tags in a ``<tool_call>`` block."""

import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, WrittenCall
from slime_search.dialects.notations.base import Blocks, as_text, without_line_ends

_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>(.*)</function>\s*", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>(.*?)</parameter>\s*", re.DOTALL)
_FORM = "<function=…>, <parameter=…>, the value, </parameter>, </function>"


class QwenXml(Blocks):
    """``<tool_call><function=search><parameter=query>…</parameter></function></tool_call>``, tags on their own lines.

    Values are text as it stands; what is no text is written as JSON and read back as that text.
    """

    name = "qwen_xml"
    values_are_text = True
    opening, closing = CALL_OPEN, CALL_CLOSE
    inside = ("<function=", "</function>", "<parameter=", "</parameter>")
    marks = (opening, closing, *inside)

    def read(self, body: str) -> list[WrittenCall]:
        function = _FUNCTION.fullmatch(body)
        if function is None:
            return [WrittenCall("", {}, f"a call must be written {_FORM}, between {CALL_OPEN} and {CALL_CLOSE}")]
        name, written = function[1].strip(), function[2]
        if _PARAMETER.sub("", written).strip():
            return [WrittenCall(name, {}, f"a call must be written {_FORM}, and nothing else")]
        return [WrittenCall(name, {key.strip(): without_line_ends(v) for key, v in _PARAMETER.findall(written)})]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        parameters = "".join(f"<parameter={key}>\n{as_text(v)}\n</parameter>\n" for key, v in arguments.items())
        return f"{CALL_OPEN}\n<function={name}>\n{parameters}</function>\n{CALL_CLOSE}"
