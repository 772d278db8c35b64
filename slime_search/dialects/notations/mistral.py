"""Mistral: ``[TOOL_CALLS]`` and a JSON list, or a name, an id and JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Notation, Split, in_json, json_call

_CALLS, _ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_LIST_FORM = f'{_CALLS}[{{"name": "…", "arguments": {{…}}, "id": "…"}}]'
_FORM = f"{_CALLS}NAME{_ARGS}{{…}}"


class MistralJson(Notation):
    """``[TOOL_CALLS][{"name": "search", "arguments": {"query": "…"}, "id": "…"}]``: versions 3 to 7."""

    name = "mistral_json"
    marks = (_CALLS,)
    result_marks = ("[TOOL_RESULTS]", "[/TOOL_RESULTS]")
    thought = ("[THINK]", "[/THINK]")

    def split(self, text: str) -> Split:
        before, found, written = text.partition(_CALLS)
        if not found:
            return text, [], ""
        try:
            values = json.loads(written)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, list) or not values:
            return before, [WrittenCall("", {}, f"calls must be written {_LIST_FORM}")], ""
        return before, [_of_list(value) for value in values], ""

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{_CALLS}[{in_json({'name': name, 'arguments': dict(arguments), 'id': '000000000'})}]"


class Mistral(Notation):
    """``[TOOL_CALLS]search[ARGS]{"query": "…"}``, with ``[CALL_ID]`` and an id before ``[ARGS]`` in some versions."""

    name = "mistral"
    marks = (_CALLS, _ID, _ARGS)
    result_marks = ("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]")
    thought = ("[THINK]", "[/THINK]")

    def split(self, text: str) -> Split:
        before, *written = text.split(_CALLS)
        return before, [_read(call) for call in written], ""

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{_CALLS}{name}{_ARGS}{in_json(dict(arguments))}"


def _of_list(value: Any) -> WrittenCall:
    match value:
        case {"name": str(name), "arguments": dict(arguments)}:
            return WrittenCall(name, arguments, None, str(value.get("id", "")))
    return WrittenCall("", {}, f"calls must be written {_LIST_FORM}")


_HEAD = re.compile(rf"\s*([^\[\]{{}}\n]+?)\s*(?:{re.escape(_ID)}\s*([^\[\]\n]*?)\s*)?{re.escape(_ARGS)}")


def _read(written: str) -> WrittenCall:
    head = _HEAD.match(written)
    if head is None:
        return WrittenCall("", {}, f"a call must be written {_FORM}")
    return json_call(head[1], written[head.end() :], _FORM, head[2] or "")
