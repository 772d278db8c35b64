"""DeepSeek V3 and R1, and V3.1: a name and JSON behind a separator. V4 writes tags, see ``invoke``."""

import re
from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Blocks, in_json, json_call

_OPEN, _CLOSE, _BETWEEN = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
_ALL = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_RESULTS = (
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
)
_FENCED = re.compile(r"\s*(?P<name>[^\n`]+?)\s*\n```json\n(?P<arguments>.*)\n```\s*", re.DOTALL)


class DeepSeekV31(Blocks):
    """``<｜tool▁call▁begin｜>search<｜tool▁sep｜>{"query": "…"}<｜tool▁call▁end｜>``."""

    name = "deepseek_v31"
    opening, closing, around, inside = _OPEN, _CLOSE, _ALL, (_BETWEEN,)
    marks = (_OPEN, _CLOSE, _BETWEEN, *_ALL)
    result_marks = _RESULTS

    def read(self, body: str) -> list[WrittenCall]:
        name, found, arguments = body.partition(_BETWEEN)
        form = f"{_OPEN}the function's name{_BETWEEN}{{…}}{_CLOSE}"
        if not found:
            return [WrittenCall("", {}, f"a call must be written {form}")]
        return [json_call(name.strip(), arguments, form)]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{_ALL[0]}{_OPEN}{name}{_BETWEEN}{in_json(dict(arguments))}{_CLOSE}{_ALL[1]}"


class DeepSeekV3(DeepSeekV31):
    """``<｜tool▁call▁begin｜>function<｜tool▁sep｜>search``, and the arguments as a fenced block of JSON below."""

    name = "deepseek_v3"

    def read(self, body: str) -> list[WrittenCall]:
        kind, found, rest = body.partition(_BETWEEN)
        form = f"{_OPEN}function{_BETWEEN}the function's name, and {{…}} below it between ```json and ```, {_CLOSE}"
        fenced = _FENCED.fullmatch(rest)
        if not found or kind.strip() != "function" or fenced is None:
            return [WrittenCall("", {}, f"a call must be written {form}")]
        return [json_call(fenced["name"], fenced["arguments"], form)]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        call = f"{_OPEN}function{_BETWEEN}{name}\n```json\n{in_json(dict(arguments))}\n```{_CLOSE}"
        return f"{_ALL[0]}{call}{_ALL[1]}"
