"""Tool calls as text: Hermes' and Qwen's ``<tool_call>`` blocks, and Llama's bare JSON object."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"

_BLOCK = re.compile(rf"{CALL_OPEN}(.*?){CALL_CLOSE}", re.DOTALL)
_MARK = re.compile(rf"</?{CALL_OPEN[1:-1]}>")
_PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as a model wrote it: its name and arguments, or what is wrong with it.

    ``call_id`` is the name or number that the model gave it, in families where it does.
    """

    name: str
    arguments: Mapping[str, Any]
    error: str | None = None
    call_id: str = ""


def call_block(function: Mapping[str, Any]) -> str:
    """The block of one call, ``{"name": …, "arguments": …}``; arguments may be a JSON string, as OpenAI has them."""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # A server hands on what the model wrote, so this may be no JSON; it then reads as the malformed call it is.
        body = f'{{"name": {json.dumps(function.get("name"))}, "arguments": {arguments}}}'
    else:
        body = json.dumps({"name": function.get("name"), "arguments": arguments or {}}, ensure_ascii=False)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"


def split_calls(text: str) -> tuple[str, list[WrittenCall], str]:
    """What stands before the first call, the calls in order, and what stands between and after them.

    A mark without its partner counts as a malformed call. Text that is nothing but one JSON object with a name and
    arguments is a call too (Llama 3).
    """
    bare = text.strip().removeprefix(_PYTHON_TAG).strip()
    if bare.startswith("{") and CALL_OPEN not in bare:
        call = _read(bare)
        if call.error is None:
            return "", [call], ""
    first = _MARK.search(text)
    if first is None:
        return text, [], ""
    before, rest = text[: first.start()], text[first.start() :]
    calls = [_read(block) for block in _BLOCK.findall(rest)]
    after = _BLOCK.sub("", rest)
    if _MARK.search(after):
        calls.append(WrittenCall("", {}, f"{CALL_OPEN} and {CALL_CLOSE} must come in pairs"))
    return before, calls, after


def _read(body: str) -> WrittenCall:
    try:
        value = json.loads(body)
    except ValueError as error:
        return WrittenCall("", {}, f"a call must be one JSON object ({error})")
    except RecursionError:
        return WrittenCall("", {}, "a call must be one JSON object (it is nested too deeply)")
    match value:
        case {"name": str(name), "arguments": arguments} | {"name": str(name), "parameters": arguments}:
            pass
        case _:
            return WrittenCall("", {}, 'a call must have the form {"name": "…", "arguments": {…}}')
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return WrittenCall(name, {}, "arguments must be a JSON object")
    if not isinstance(arguments, dict):
        return WrittenCall(name, {}, "arguments must be a JSON object")
    return WrittenCall(name, arguments)
