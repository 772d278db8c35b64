"""GLM-4.5 and later: a name, then keys and values as tags, in a ``<tool_call>`` block."""

import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, WrittenCall
from slime_search.dialects.notations.base import Blocks, as_text

_ARGUMENT = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)
_FORM = "the function's name, <arg_key>…</arg_key>, <arg_value>…</arg_value>"


class Glm(Blocks):
    """``<tool_call>search<arg_key>query</arg_key><arg_value>…</arg_value></tool_call>``, pairs on their own lines.

    Values are text as it stands; what is no text is written as JSON and read back as that text.
    """

    name = "glm"
    values_are_text = True
    opening, closing = CALL_OPEN, CALL_CLOSE
    inside = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
    marks = (opening, closing, *inside)

    def read(self, body: str) -> list[WrittenCall]:
        name, _, _ = body.partition("<arg_key>")
        written = body[len(name) :]
        name = name.strip()
        if not name or any(c in name for c in "<>{}\n") or _ARGUMENT.sub("", written).strip():
            return [WrittenCall("", {}, f"a call must be written {_FORM}, between {CALL_OPEN} and {CALL_CLOSE}")]
        return [WrittenCall(name, {key.strip(): value for key, value in _ARGUMENT.findall(written)})]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        pairs = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{as_text(v)}</arg_value>\n" for key, v in arguments.items()
        )
        return f"{CALL_OPEN}{name}\n{pairs}{CALL_CLOSE}"
