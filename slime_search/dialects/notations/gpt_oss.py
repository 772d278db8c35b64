"""gpt-oss: a turn is a row of messages, each with a channel and perhaps a recipient."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from slime_search.core.call_markup import WrittenCall
from slime_search.dialects.notations.base import Notation, Split, in_json, json_call

_NEXT = "<|start|>assistant"
_ENDS = re.compile(r"(?:<\|(?:end|call|return)\|>\s*)+\Z")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_FORM = "<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>"


class _Said(NamedTuple):
    channel: str
    recipient: str
    content: str
    written: str


class GptOss(Notation):
    """``<|channel|>commentary to=functions.search <|constrain|>json<|message|>{"query": "…"}<|call|>``.

    ``analysis`` without a recipient is thought, ``final`` is the answer. The recipient may stand before the channel, as
    the template writes it.
    """

    name = "gpt_oss"
    marks = ("<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|start|>", "<|end|>", "<|return|>")
    result_marks = ("<|start|>functions", "<|start|>tool")
    thought = ("<|channel|>analysis<|message|>", "<|end|>")
    ends = ("<|call|>", "<|return|>", "<|end|>")

    def split(self, text: str) -> Split:
        before: list[str] = []
        after: list[str] = []
        calls: list[WrittenCall] = []
        for said in _messages(text):
            if said.recipient:
                name = said.recipient.removeprefix("functions.")
                calls.append(json_call(name, said.content, _FORM))
            elif said.channel == "final" or not calls:
                (after if calls else before).append(said.content)
            elif said.content.strip():
                after.append(said.content)
        return "".join(before), calls, "".join(after)

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{in_json(dict(arguments))}"

    def spoken(self, turn: str) -> str | None:
        messages = _messages(turn)
        kept = [said.written for said in messages if said.channel != "analysis" or said.recipient]
        return None if messages and not kept else _NEXT.join(kept)

    def is_tidy(self, turn: str) -> bool:
        """Whether each message has a channel, and there is one answer at most."""
        messages = _messages(turn)
        finals = sum(said.channel == "final" for said in messages)
        return bool(messages) and all(said.channel for said in messages) and finals <= 1


def _messages(turn: str) -> list[_Said]:
    said = []
    for written in turn.split(_NEXT):
        if not written.strip():
            continue
        header, found, content = written.partition("<|message|>")
        if not found and "<|channel|>" not in header and not _RECIPIENT.match(header.strip()):
            # No message at all, only text.
            header, content = "", written
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        content = _ENDS.sub("", content)
        said.append(_Said(channel[1] if channel else "", recipient[1] if recipient else "", content, written))
    return said
