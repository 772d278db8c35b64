"""DeepSeek V4 and MiniMax M2: ``invoke`` and ``parameter`` tags with the names as attributes, in a block."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Blocks, as_text, in_json, json_objects


class _Invoke(Blocks):
    prefix: ClassVar[str] = ""
    """What stands before the names of tags."""

    def read(self, body: str) -> list[WrittenCall]:
        calls = [self._call(name, written) for name, written in self._invoked.findall(body)]
        if not calls or self._invoked.sub("", body).strip():
            calls.append(WrittenCall("", {}, f"a call must be written {self.form('…', '…')}"))
        return calls

    def _call(self, name: str, written: str) -> WrittenCall:
        if self._parameter.sub("", written).strip():
            return WrittenCall(name, {}, f"a call must be written {self.form(name[:40], '…')}")
        arguments: dict[str, Any] = {}
        for key, attributes, value in self._parameter.findall(written):
            arguments[key] = value
            if 'string="false"' in attributes:
                values = json_objects(value)
                if values is None or len(values) != 1:
                    return WrittenCall(name, {}, f'{key:.40} has string="false" and is no JSON')
                arguments[key] = values[0]
        return WrittenCall(name, arguments)

    @cached_property
    def _invoked(self) -> re.Pattern[str]:
        return re.compile(rf'<{self.prefix}invoke name="([^"\n]*)">(.*?)</{self.prefix}invoke>', re.DOTALL)

    @cached_property
    def _parameter(self) -> re.Pattern[str]:
        return re.compile(
            rf'<{self.prefix}parameter name="([^"\n]*)"([^>\n]*)>(.*?)</{self.prefix}parameter>', re.DOTALL
        )


class MiniMax(_Invoke):
    """``<minimax:tool_call><invoke name="search"><parameter name="query">…</parameter></invoke></minimax:tool_call>``.

    Values are text as it stands; what is no text is written as JSON and read back as that text.
    """

    name = "minimax"
    values_are_text = True
    opening, closing = "<minimax:tool_call>", "</minimax:tool_call>"
    inside = ("<invoke name=", "</invoke>")
    marks = (opening, closing, *inside)
    result_marks = ("<response>", "</response>")

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        values = "".join(f'<parameter name="{key}">{as_text(v)}</parameter>\n' for key, v in arguments.items())
        return f'{self.opening}\n<invoke name="{name}">\n{values}</invoke>\n{self.closing}'


class DeepSeekV4(_Invoke):
    """MiniMax's tags with ``｜DSML｜`` before their names; ``string`` says whether a value is text or JSON."""

    name = "deepseek_v4"
    prefix = "｜DSML｜"
    opening, closing = "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"
    inside = ("｜DSML｜",)
    marks = inside
    result_marks = ("<tool_result>", "</tool_result>")

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        values = "\n".join(self._written(key, value) for key, value in arguments.items())
        return f'{self.opening}\n<{self.prefix}invoke name="{name}">\n{values}\n</{self.prefix}invoke>\n{self.closing}'

    def _written(self, key: str, value: Any) -> str:
        is_text = isinstance(value, str)
        tag = f'<{self.prefix}parameter name="{key}" string="{"true" if is_text else "false"}">'
        return f"{tag}{value if is_text else in_json(value)}</{self.prefix}parameter>"
