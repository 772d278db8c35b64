"""What a model's chat template writes around tool messages, found out once and appended ever after.

A template is made to render whole conversations. Rendering one again at each turn would rewrite what the model said:
Qwen3's drops earlier thoughts, most write a call's JSON anew. So the template is asked once, about a conversation of
landmarks, and what it writes between them is kept as text. Nothing that was sampled is ever rendered.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, call_block, split_calls
from slime_search.core.tokens import Tokenizer
from slime_search.errors import ConfigError

Message = Mapping[str, Any]

_ASKED, _SAID, _CALLED = "Landmark asked", "Landmark said", "Landmark called"
_FIRST, _SECOND = "Landmark one", "Landmark two"
_QUOTED = 'Landmark "quoted"'


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Text around tool results. All of it is trusted, what comes between is not.

    ``turn_end`` closes the model's turn; ``opening`` leads from there to the first result, ``between`` to the next one,
    ``closing`` from the last one to where the model speaks again. ``as_json`` says that the template writes results as
    JSON strings (Llama 3), whose quotes are part of this frame; ``tool_role`` that it knows tool messages at all (Gemma
    does not: results come from the user), ``system_role`` that it knows system messages (nor does Gemma),
    ``renders_tools`` that it describes the tools to the model by itself.
    ``keeps_turns`` is whether rendering a longer conversation leaves earlier turns as they were, ``readable_calls``
    whether calls as this template teaches them are read here without a server's parser.
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


class ChatTemplate:
    """A tokenizer's template with fixed arguments, for models that lack a role and models that don't.

    Args:
        tokenizer: has the template.
        tools: the tools' schemas, as in OpenAI's API.
        kwargs: for the template, such as ``{"enable_thinking": False}``.
    """

    def __init__(
        self, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._tools = list(tools)
        self._kwargs = dict(kwargs or {})
        self.frame = self._frame_or_refusal()

    def prompt(self, messages: Sequence[Message]) -> str:
        """The conversation so far and the beginning of the model's turn, with the tools described."""
        return self._render(self.complete(messages), generate=True)

    def complete(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with a description of the tools where the template writes none.

        A system message that the template refuses is put before the first user message.
        """
        if messages and messages[0]["role"] == "system" and not self.frame.system_role:
            messages = _before_first(messages[1:], str(messages[0]["content"]))
        if self.frame.renders_tools or not self._tools:
            return list(messages)
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in self._tools)
        return _before_first(messages, INSTRUCTIONS.format(tools=lines))

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as this template writes it, without blanks around; a ``<tool_call>`` block where it writes none."""
        from jinja2 import TemplateError

        asked: Message = {"role": "user", "content": _ASKED}
        says: Message = {"role": "assistant", "content": _SAID}
        function = {"name": name, "arguments": dict(arguments)}
        called = {**says, "tool_calls": [{"type": "function", "function": function}]}
        try:
            turn = _after(self._render([asked, called]), _ASKED)
            head = _after(self._render([asked, says]), _ASKED).partition(_SAID)[0]
        except TemplateError:
            return call_block(function)
        # Llama 3's leaves out what is said beside a call.
        written = turn.removeprefix(head).removeprefix(_SAID).partition(self.frame.turn_end)[0].strip()
        return written if name in written else call_block(function)

    def _render(self, messages: Sequence[Message], *, generate: bool = False, with_tools: bool = True) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(messages),
                tools=(self._tools or None) if with_tools else None,
                add_generation_prompt=generate,
                tokenize=False,
                **self._kwargs,
            )
        )

    def _knows_system(self) -> bool:
        from jinja2 import TemplateError

        try:
            return _SAID in self._render([{"role": "system", "content": _SAID}, {"role": "user", "content": _ASKED}])
        except TemplateError:
            return False

    def _frame_or_refusal(self) -> ChatFrame:
        from jinja2 import TemplateError

        try:
            return self._find_frame()
        except ConfigError:
            raise
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigError(
                f"chat template: it can't render a conversation that calls a function ({error}). Use the checkpoint of "
                "a chat model, or the tag recipe."
            ) from error

    def _find_frame(self) -> ChatFrame:
        from jinja2 import TemplateError

        asked: Message = {"role": "user", "content": _ASKED}
        answered = self._render([asked, {"role": "assistant", "content": _SAID}, asked], generate=True)
        turn_end = self._first_marker(_after(answered, _SAID).partition(_ASKED)[0])
        call = {"name": "landmark", "arguments": {"query": _CALLED}}
        says: Message = {"role": "assistant", "content": _SAID, "tool_calls": [{"type": "function", "function": call}]}
        try:
            whole = self._render([asked, says, _tool(_FIRST), _tool(_SECOND)], generate=True)
            quoted = self._render([asked, says, _tool(_QUOTED)], generate=True)
            tool_role = _FIRST in whole and _SECOND in whole
        except TemplateError:
            tool_role = False
        if not tool_role:
            says = {"role": "assistant", "content": _SAID + call_block(call)}
            results = f"{RESULT_OPEN}\n{_FIRST}\n{RESULT_CLOSE}\n{RESULT_OPEN}\n{_SECOND}\n{RESULT_CLOSE}"
            whole = self._render([asked, says, {"role": "user", "content": results}], generate=True)
            quoted = ""
        # Llama 3's leaves out what is said beside a call, a plain one leaves out the call.
        rest = _after(_after(whole, _CALLED if _CALLED in whole else _SAID), turn_end)
        opening, _, rest = rest.partition(_FIRST)
        between, _, closing = rest.partition(_SECOND)
        renders_tools = not self._tools or self._render([asked]) != self._render([asked], with_tools=False)
        plain = [asked, {"role": "assistant", "content": f"<think>\n{_FIRST}\n</think>\n\n{_SAID}"}]
        return ChatFrame(
            turn_end=turn_end,
            opening=opening,
            between=between,
            closing=closing,
            as_json=json.dumps(_QUOTED) in quoted,
            tool_role=tool_role,
            system_role=self._knows_system(),
            renders_tools=renders_tools,
            keeps_turns=_FIRST in self._render([*plain, asked]),
            # A template that teaches calls and has no tool messages has them in another form than was asked of it.
            readable_calls=_is_readable(_after(whole, _ASKED), turn_end) if tool_role else not renders_tools,
        )

    def _first_marker(self, text: str) -> str:
        """The control token with which the template ends the model's turn.

        Raises:
            ConfigError: it writes none, so a turn would have no end.
        """
        tags = (CALL_OPEN, CALL_CLOSE, RESULT_OPEN, RESULT_CLOSE)
        markers = [t for t in self._tokenizer.get_added_vocab() if t.strip() and t not in tags and t in text]
        if not markers:
            raise ConfigError(
                f"chat template: it ends the assistant's turn with {text[:40]!r}, which holds no special token, so the "
                "model could not end a turn. Use a checkpoint whose template closes turns, or the tag recipe."
            )
        return min(markers, key=text.index)


INSTRUCTIONS = (
    "You may call one or more functions to assist with the user query. Their signatures are:\n"
    f"<tools>\n{{tools}}\n</tools>\n\n"
    "For each call, write a JSON object with the function's name and arguments:\n"
    f'{CALL_OPEN}\n{{{{"name": <name>, "arguments": <arguments>}}}}\n{CALL_CLOSE}'
)
"""What a model is told whose template does not describe tools."""


def _is_readable(rest: str, turn_end: str) -> bool:
    """Whether the call in a rendered conversation is read as one. Where it is left out, no notation is taught."""
    before, found, after = rest.partition(_CALLED)
    turn = before + found + after.partition(turn_end)[0]
    texts = (turn, turn[turn.find("{") :])
    return not found or any(c.arguments == {"query": _CALLED} for text in texts for c in split_calls(text)[1])


def _tool(content: str) -> Message:
    return {"role": "tool", "name": "landmark", "content": content}


def _before_first(messages: Sequence[Message], text: str) -> list[Message]:
    """``text`` put before the content of the first message."""
    first, *rest = messages
    return [{**first, "content": f"{text}\n\n{first['content']}"}, *rest]


def _after(text: str, landmark: str) -> str:
    """What follows the first ``landmark``.

    Raises:
        ConfigError: the template does not write it down as it was given.
    """
    _, found, rest = text.partition(landmark)
    if not found:
        raise ConfigError(
            f"chat template: it does not write {landmark!r} as it was given, so where turns begin and end can't be "
            "told. Use another template, or the tag recipe, which has no template between turns."
        )
    return rest
