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
            arguments, place = _members(body, head.end(), 0)
            if body[place:].strip():
                raise ValueError(body)
        except (ValueError, IndexError):
            form = f"{self.opening}call:NAME{{key:{_QUOTE}…{_QUOTE}}}{self.closing}"
            return [WrittenCall(head[1] if head else "", {}, f"a call must be written {form}")]
        return [WrittenCall(head[1], arguments)]

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{self.opening}call:{name}{_written(dict(arguments))}{self.closing}"


def _members(text: str, place: int, depth: int) -> tuple[dict[str, Any], int]:
    """The members of an object whose brace ends before ``place``, and where the object ends."""
    found: dict[str, Any] = {}
    while True:
        if text[place:].lstrip()[:1] == "}":
            return found, text.index("}", place) + 1
        key = _KEY.match(text, place)
        if key is None:
            raise ValueError(text)
        found[key[1]], place = _value(text, key.end(), depth)
        place = _past_comma(text, place, "}")


def _value(text: str, place: int, depth: int) -> tuple[Any, int]:
    if depth > _DEPTH:
        raise ValueError(text)
    while text[place].isspace():
        place += 1
    if text.startswith(_QUOTE, place):
        end = text.index(_QUOTE, place + len(_QUOTE))
        return text[place + len(_QUOTE) : end], end + len(_QUOTE)
    if text[place] == "{":
        return _members(text, place + 1, depth + 1)
    if text[place] == "[":
        return _elements(text, place + 1, depth + 1)
    bare = _BARE.match(text, place)
    if bare is None:
        raise ValueError(text)
    return _scalar(bare[0]), bare.end()


def _elements(text: str, place: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while True:
        if text[place:].lstrip()[:1] == "]":
            return found, text.index("]", place) + 1
        value, place = _value(text, place, depth)
        found.append(value)
        place = _past_comma(text, place, "]")


def _past_comma(text: str, place: int, closing: str) -> int:
    while text[place].isspace():
        place += 1
    if text[place] == ",":
        return place + 1
    if text[place] != closing:
        raise ValueError(text)
    return place


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
