"""Tool calls in a completion's text, read as SGLang's parser ``qwen`` reads them, slips included."""

import json
import re
import uuid
from collections.abc import Collection
from typing import Any

_OPENING = "<tool_call>\n"
_BLOCK = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


def parse_tool_calls(text: str, names: Collection[str]) -> tuple[str, list[dict[str, Any]]]:
    """The text before the first call, and the calls in the shape of OpenAI's ``message.tool_calls``.

    A block that is not JSON and a call of a tool that is not in ``names`` are left out, of the text as well. The text
    is returned whole if there is no opened block in it, or if a block holds JSON that is no object.
    """
    start = text.find(_OPENING)
    if start < 0:
        return text, []
    found: list[Any] = []
    for block in _BLOCK.findall(text):
        try:
            parsed = json.loads(block.strip())
        except json.JSONDecodeError:
            continue
        except RecursionError:
            return text, []
        found += parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(call, dict) for call in found):
        return text, []
    known = [call for call in found if isinstance(call.get("name"), str) and call["name"] in names]
    return text[:start].strip(), [_as_openai(index, call) for index, call in enumerate(known)]


def _as_openai(index: int, call: dict[str, Any]) -> dict[str, Any]:
    arguments = call.get("parameters") or call.get("arguments", {})
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "index": index,
        "type": "function",
        "function": {"name": call["name"], "arguments": json.dumps(arguments, ensure_ascii=False)},
    }
