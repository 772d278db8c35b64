"""What a model's chat template writes around tool messages, found out once and appended ever after.

A template is made to render whole conversations. Rendering one again at each turn would rewrite what the model said:
Qwen3's drops earlier thoughts, most write a call's JSON anew. So the template is asked once, about a conversation of
landmarks, and what it writes between them is kept as text. Nothing that was sampled is ever rendered.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN
from slime_search.core.chat_prompt import need_chat_template
from slime_search.core.tokens import Tokenizer
from slime_search.dialects.notations import HERMES, NOTATIONS, Notation

Message = Mapping[str, Any]

CALL_IDS = "markedid1", "markedid2"
"""Ids for calls that were never made. Mistral's templates take ids of nine letters and digits only."""
LAST_NAME, LAST_ID, NEXT_NAME, NEXT_ID = "\ue000", "\ue001", "\ue002", "\ue003"
"""Slots in a frame for name and id of the call answered last and of the one answered next: private-use characters."""
OPENED_THOUGHT = re.compile(r"(?:<think>|\[THINK\]|<\|channel>thought)?\s*(?:</think>|\[/THINK\]|<channel\|>)?\s*\Z")
"""A thought that a template opens, or opens and closes, where the model speaks next."""


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Text around tool results. All of it is trusted, what comes between is not.

    ``turn_end`` closes the model's turn that answers and ``call_end`` one that calls; ``opening`` leads from there to
    the first result, ``between`` to the next one, ``closing`` from the last one to where the model speaks again.
    ``user_opening`` and ``user_closing`` stand around what the user says after an answer.
    ``as_json`` says that the template writes results as JSON strings (Llama 3), whose quotes are part of this frame;
    ``tool_role`` that it knows tool messages at all (Gemma 3 does not: results come from the user), ``system_role``
    that it knows system messages (nor does Gemma 2), ``renders_tools`` that it describes the tools to the model by
    itself.
    ``keeps_turns`` is whether rendering a longer conversation leaves earlier turns as they were, ``readable_calls``
    whether calls as this template teaches them are read here without a server's parser, and ``notation`` as what.
    ``ends`` is all that may end a turn.
    """

    turn_end: str
    opening: str
    between: str
    closing: str
    as_json: bool
    tool_role: bool
    system_role: bool
    renders_tools: bool
    keeps_turns: bool
    readable_calls: bool
    call_end: str = ""
    user_opening: str = field(default="", repr=False, compare=False)
    user_closing: str = field(default="", repr=False, compare=False)
    ends: tuple[str, ...] = field(default=(), repr=False, compare=False)
    notation: str = HERMES.name
    has_slots: bool = field(init=False, repr=False)
    """Whether a result's header names its call."""

    def __post_init__(self) -> None:
        if not self.call_end:
            object.__setattr__(self, "call_end", self.turn_end)
        slots, parts = (LAST_NAME, LAST_ID, NEXT_NAME, NEXT_ID), (self.opening, self.between, self.closing)
        object.__setattr__(self, "has_slots", any(slot in part for slot in slots for part in parts))


class ChatTemplate:
    """A tokenizer's template with fixed arguments, for models that lack a role and models that don't.

    Args:
        tokenizer: has the template.
        tools: the tools' schemas, as in OpenAI's API.
        kwargs: for the template, such as ``{"enable_thinking": False}``.
        notation: how the model writes its calls; None for what the template writes.

    Raises:
        ConfigError: what stands around results can't be told, or is not what the template renders.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: Sequence[Mapping[str, Any]],
        kwargs: Mapping[str, Any] | None = None,
        notation: str | None = None,
    ) -> None:
        from slime_search.dialects.frame_finding import FrameFinder
        from slime_search.dialects.frame_proof import prove

        self.tokenizer = tokenizer
        self.tools = list(tools)
        self._kwargs = dict(kwargs or {})
        self.arguments_as_text = False
        self.renders_calls = True
        self.renders_two_calls = True
        self.frame = FrameFinder(self, NOTATIONS[notation] if notation else None).find()
        prove(self)

    @property
    def notation(self) -> Notation:
        """How calls are read."""
        return NOTATIONS[self.frame.notation]

    def prompt(self, messages: Sequence[Message]) -> str:
        """The conversation so far and the beginning of the model's turn, with the tools described."""
        return self.render(self.complete(messages), generate=True)

    def complete(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with a description of the tools where the template writes none.

        A system message that the template refuses is put before the first user message.
        """
        if messages and messages[0]["role"] == "system" and not self.frame.system_role:
            messages = _before_first(messages[1:], str(messages[0]["content"]))
        if self.frame.renders_tools or not self.tools:
            return list(messages)
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in self.tools)
        return _before_first(messages, INSTRUCTIONS.format(tools=lines))

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as this template writes it, without blanks around, or as its notation has it where it writes none."""
        from jinja2 import TemplateError

        asked: Message = {"role": "user", "content": "Landmark asked"}
        try:
            written = self.turn(self.render([asked, self.called([(name, dict(arguments), CALL_IDS[0])])]), asked)
        except (TemplateError, TypeError):
            return self.notation.write(name, arguments)
        turn = written.partition(self.frame.call_end)[0]
        turn = (self.notation.spoken(turn) or turn).strip()
        return turn if name in turn else self.notation.write(name, arguments)

    def called(self, calls: Sequence[tuple[str, Mapping[str, Any], str]], said: str = "") -> Message:
        """An assistant's message with calls, each a name, arguments and an id, in the form that this template takes."""
        return {
            "role": "assistant",
            "content": said,
            "tool_calls": [
                {
                    "type": "function",
                    "id": call_id,
                    "function": {
                        "name": name,
                        "arguments": json.dumps(arguments) if self.arguments_as_text else dict(arguments),
                    },
                }
                for name, arguments, call_id in calls
            ],
        }

    def render(self, messages: Sequence[Message], *, generate: bool = False, with_tools: bool = True) -> str:
        """The messages as they are, by the template. Raises ConfigError where there is none."""
        need_chat_template(self.tokenizer)
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=(self.tools or None) if with_tools else None,
                add_generation_prompt=generate,
                tokenize=False,
                **self._kwargs,
            )
        )

    def common_beginning(self, rendered: str, prompt: str) -> int:
        """How many characters two renderings share, not counting a control token that they share the beginning of."""
        pairs = zip(rendered, prompt, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        for marker in self.tokenizer.get_added_vocab():
            start = prompt.rfind(marker, 0, common + len(marker))
            if marker.strip() and 0 <= start < common < start + len(marker):
                # "<think>" and "<tool_call>" begin alike.
                common = start
        return common

    def turn(self, rendered: str, asked: Message) -> str:
        """What follows the beginning of the model's turn, which its prompt may have gone on from with a thought."""
        return rendered[self.common_beginning(rendered, self.render([asked], generate=True)) :]


INSTRUCTIONS = (
    "You may call one or more functions to assist with the user query. Their signatures are:\n"
    f"<tools>\n{{tools}}\n</tools>\n\n"
    "For each call, write a JSON object with the function's name and arguments:\n"
    f'{CALL_OPEN}\n{{{{"name": <name>, "arguments": <arguments>}}}}\n{CALL_CLOSE}'
)
"""What a model is told whose template does not describe tools."""


def _before_first(messages: Sequence[Message], text: str) -> list[Message]:
    """``text`` put before the content of the first message."""
    first, *rest = messages
    return [{**first, "content": f"{text}\n\n{first['content']}"}, *rest]
