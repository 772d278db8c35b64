"""Qwen2.5, Qwen3, Hermes, SmolLM: JSON in ``<tool_call>`` blocks."""

from collections.abc import Mapping
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, call_block, split_calls
from slime_search.dialects.notations.base import Notation, Split


class Hermes(Notation):
    """``<tool_call>{"name": "search", "arguments": {"query": "…"}}</tool_call>``.

    A turn that is nothing but one JSON object with a name and arguments counts as a call too.
    """

    name = "hermes"
    marks = (CALL_OPEN, CALL_CLOSE)

    def split(self, text: str) -> Split:
        return split_calls(text)

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return call_block({"name": name, "arguments": dict(arguments)})
