"""Gemma 4: ``call:name{…}`` with quotes that are tokens. Gemma 1 to 3 know no calls and are taught Hermes'."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Blocks

_QUOTE = '<|"|>'
_HEAD = re.compile(r"\s*call:([\w.-]+)\{")
_KEY = re.compile(r"\s*([\w.-]+)\s*:")
_BARE = re.compile(r"[^,\]}\s]+")
_DEPTH = 32


class Gemma4(Blocks):
    """``<|tool_call>call:search{query:<|"|>…<|"|>}<tool_call|>``, keys in alphabetical order."""

    name = "gemma4"
    opening, closing = "<|tool_call>", "<tool_call|>"
    marks = (opening, closing, _QUOTE, "<|channel>", "<channel|>")
    result_marks = ("<|tool_response>", "<tool_response|>")
    thought = ("<|channel>", "<channel|>")
    # The mark with which its result begins is sampled: it ends a turn that calls.
    ends = ("<|tool_response>", "<turn|>")

    def read(self, body: str) -> list[WrittenCall]:
        head = _HEAD.match(body)
        try:
            if head is None:
                raise ValueError(body)
            arguments, position = _members(body, head.end(), 0)
            if body[position:].strip():
                raise ValueError(body)
        except (ValueError, IndexError):
            form = f"{self.opening}call:NAME{{key:{_QUOTE}…{_QUOTE}}}{self.closing}"
            return [WrittenCall(head[1] if head else "", {}, f"a call must be written {form}")]
        return [WrittenCall(head[1], arguments)]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{self.opening}call:{name}{_written(dict(arguments))}{self.closing}"


def _members(text: str, position: int, depth: int) -> tuple[dict[str, Any], int]:
    """The members of an object whose brace ends before ``place``, and where the object ends."""
    found: dict[str, Any] = {}
    while True:
        if text[position:].lstrip()[:1] == "}":
            return found, text.index("}", position) + 1
        key = _KEY.match(text, position)
        if key is None:
            raise ValueError(text)
        found[key[1]], position = _value(text, key.end(), depth)
        position = _past_comma(text, position, "}")


def _value(text: str, position: int, depth: int) -> tuple[Any, int]:
    if depth > _DEPTH:
        raise ValueError(text)
    while text[position].isspace():
        position += 1
    if text.startswith(_QUOTE, position):
        end = text.index(_QUOTE, position + len(_QUOTE))
        return text[position + len(_QUOTE) : end], end + len(_QUOTE)
    if text[position] == "{":
        return _members(text, position + 1, depth + 1)
    if text[position] == "[":
        return _elements(text, position + 1, depth + 1)
    bare = _BARE.match(text, position)
    if bare is None:
        raise ValueError(text)
    return _scalar(bare[0]), bare.end()


def _elements(text: str, position: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while True:
        if text[position:].lstrip()[:1] == "]":
            return found, text.index("]", position) + 1
        value, position = _value(text, position, depth)
        found.append(value)
        position = _past_comma(text, position, "]")


def _past_comma(text: str, position: int, closing: str) -> int:
    while text[position].isspace():
        position += 1
    if text[position] == ",":
        return position + 1
    if text[position] != closing:
        raise ValueError(text)
    return position


def _scalar(text: str) -> Any:
    words: Mapping[str, Any] = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    try:
        return int(text)
    except ValueError:
        return float(text)


def _written(value: Any) -> str:
    match value:
        case str():
            return f"{_QUOTE}{value}{_QUOTE}"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case Mapping():
            return "{" + ",".join(f"{key}:{_written(value[key])}" for key in sorted(value)) + "}"
        case Sequence():
            return "[" + ",".join(map(_written, value)) + "]"
    return str(value)
