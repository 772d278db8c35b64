"""Llama 3: a bare JSON object, or a call behind the python tag."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, WrittenCall, split_calls
from slime_search.dialects.notations.base import Notation, Split, in_json, json_objects

PYTHON_TAG = "<|python_tag|>"
_FORM = '{"name": "…", "parameters": {…}}'
_BEGINS_A_CALL = re.compile(r'\{\s*"(?:name|type)"\s*:(?=.*"(?:parameters|arguments)"\s*:)', re.DOTALL)
_BUILT_IN = re.compile(r"(?P<name>\w+)\.call\((?P<arguments>.*)\)", re.DOTALL)


class Llama(Notation):
    """``{"name": "search", "parameters": {"query": "…"}}``, alone in its turn, several with ``;`` between them.

    ``<|python_tag|>`` may stand before it, and before ``search.call(query="…")``, as for the built-in tools. Hermes'
    blocks are read as well: fine-tuned models of this family write them.
    """

    name = "llama"
    marks = (PYTHON_TAG, CALL_OPEN, CALL_CLOSE)
    ends = ("<|eom_id|>", "<|eot_id|>")

    def spoken(self, turn: str) -> str | None:
        """A turn that begins with a call has no thought before it; a mark of one in the query is the query's."""
        begins_with_call = _BEGINS_A_CALL.match(turn.lstrip()) or turn.lstrip().startswith(PYTHON_TAG)
        return turn if begins_with_call else super().spoken(turn)

    def split(self, text: str) -> Split:
        if CALL_OPEN in text or CALL_CLOSE in text:
            return split_calls(text)
        before, tagged, rest = text.partition(PYTHON_TAG)
        bare = (rest if tagged else text).strip()
        if tagged and (called := _BUILT_IN.fullmatch(bare)):
            return before, [_built_in(called["name"], called["arguments"])], ""
        if not tagged and not bare.startswith("{"):
            return text, [], ""
        values = json_objects(bare)
        calls = [_read(value) for value in values or ()]
        if calls and all(calls):
            return before if tagged else "", [call for call in calls if call], ""
        if tagged or _BEGINS_A_CALL.match(bare):
            return before if tagged else "", [WrittenCall("", {}, f"a call must be one JSON object {_FORM}")], ""
        return text, [], ""

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f'{{"name": {in_json(name)}, "parameters": {in_json(dict(arguments))}}}'


def _read(value: Any) -> WrittenCall | None:
    match value:
        case {"name": str(name), "parameters": dict(arguments)} | {"name": str(name), "arguments": dict(arguments)}:
            return WrittenCall(name, arguments)
    return None


def _built_in(name: str, arguments: str) -> WrittenCall:
    try:
        called = ast.parse(f"f({arguments})", mode="eval").body
        assert isinstance(called, ast.Call)
        if not called.args and all(keyword.arg for keyword in called.keywords):
            return WrittenCall(name, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in called.keywords})
    except (SyntaxError, ValueError, RecursionError, MemoryError, AssertionError):
        pass
    return WrittenCall(name, {}, f'a call must be written {PYTHON_TAG}{name:.40}.call(name="…")')
