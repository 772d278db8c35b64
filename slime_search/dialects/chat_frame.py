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

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, call_block
from slime_search.core.tokens import Tokenizer
from slime_search.dialects.notations import HERMES, NOTATIONS, Notation, notation_of
from slime_search.errors import ConfigError

Message = Mapping[str, Any]

_ASKED, _SAID, _CALLED, _CALLED_TOO = "Landmark asked", "Landmark said", "Landmark called", "Landmark recalled"
_FIRST, _SECOND = "Landmark one", "Landmark two"
_QUOTED = 'Landmark "quoted"'
_NAMES = "marked_first", "marked_second"
# Mistral's templates take ids of nine letters and digits only.
_IDS = "markedid1", "markedid2"

LAST_NAME, LAST_ID, NEXT_NAME, NEXT_ID = "\ue000", "\ue001", "\ue002", "\ue003"
"""Places in a frame for name and id of the call answered last and of the one answered next: private-use characters."""
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
        from slime_search.dialects.frame_proof import prove

        self.tokenizer = tokenizer
        self._tools = list(tools)
        self._kwargs = dict(kwargs or {})
        self._named = NOTATIONS[notation] if notation else None
        self._arguments_as_text = False
        self.renders_calls = True
        self.renders_two_calls = True
        self.frame = self._frame_or_refusal()
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
        if self.frame.renders_tools or not self._tools:
            return list(messages)
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in self._tools)
        return _before_first(messages, INSTRUCTIONS.format(tools=lines))

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as this template writes it, without blanks around, or as its notation has it where it writes none."""
        from jinja2 import TemplateError

        asked: Message = {"role": "user", "content": _ASKED}
        try:
            written = self._turn(self.render([asked, self.called([(name, dict(arguments), _IDS[0])])]), asked)
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
                        "arguments": json.dumps(arguments) if self._arguments_as_text else dict(arguments),
                    },
                }
                for name, arguments, call_id in calls
            ],
        }

    def render(self, messages: Sequence[Message], *, generate: bool = False, with_tools: bool = True) -> str:
        """The messages as they are, by the template."""
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=(self._tools or None) if with_tools else None,
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
            place = prompt.rfind(marker, 0, common + len(marker))
            if marker.strip() and 0 <= place < common < place + len(marker):
                # "<think>" and "<tool_call>" begin alike.
                common = place
        return common

    def _turn(self, rendered: str, asked: Message) -> str:
        """What follows the beginning of the model's turn, which its prompt may have gone on from with a thought."""
        return rendered[self.common_beginning(rendered, self.render([asked], generate=True)) :]

    def _knows_system(self) -> bool:
        from jinja2 import TemplateError

        try:
            return _SAID in self.render([{"role": "system", "content": _SAID}, {"role": "user", "content": _ASKED}])
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
                f"chat template: it can't render a conversation that calls a function ({error})",
                "use the checkpoint of a chat model, or the tag recipe",
            ) from error

    def _find_frame(self) -> ChatFrame:
        asked: Message = {"role": "user", "content": _ASKED}
        said: Message = {"role": "assistant", "content": _SAID}
        answered = _after(self.render([asked, said, asked], generate=True), _SAID)
        turn_end = self._first_marker(answered.partition(_ASKED)[0])
        user_opening, _, user_closing = _after(answered, turn_end).partition(_ASKED)
        whole, several = self._with_results(asked)
        tool_role = whole is not None
        if whole is None:
            said = {**said, "content": _SAID + call_block({"name": _NAMES[0], "arguments": {"query": _CALLED}})}
            whole = self.render([asked, said, _from_user(_FIRST)], generate=True)
            several = self.render([asked, said, _from_user(_FIRST, _SECOND)], generate=True)
        # A plain template leaves out the call.
        self.renders_calls = _CALLED in whole
        turn = self._turn(whole, asked).partition(_FIRST)[0]
        call_end, read = self._end_of_call(turn if tool_role else _after(turn, _SAID), turn_end)
        named = self._named or read or self._told_by_results()
        rest = _after(_after(whole, _CALLED if self.renders_calls else _SAID), call_end)
        opening, _, closing = rest.partition(_FIRST)
        between = several.partition(_FIRST)[2].partition(_SECOND)[0]
        last = self.render([asked, {"role": "assistant", "content": _SAID}]).partition(_SAID)[2]
        ends = {turn_end, call_end, *named.ends, str(getattr(self.tokenizer, "eos_token", None) or "")}
        ends |= {self._first_marker(last)} if last.strip() else set()
        frame = ChatFrame(
            turn_end=turn_end,
            opening=_slotted(opening, first_is_next=True),
            between=_slotted(between, first_is_next=not self.renders_two_calls),
            closing=_slotted(closing, first_is_next=False),
            as_json=tool_role and json.dumps(_QUOTED) in self._quoted(asked),
            tool_role=tool_role,
            system_role=self._knows_system(),
            renders_tools=self._renders_tools(asked),
            keeps_turns=self._keeps_turns(asked),
            # A template that teaches calls and has no tool messages has them in another form than was asked of it.
            readable_calls=(read is not None or not self.renders_calls)
            if tool_role
            else not self._renders_tools(asked),
            call_end=call_end,
            user_opening=user_opening,
            user_closing=user_closing,
            ends=tuple(sorted(end for end in ends if end in self.tokenizer.get_added_vocab())),
            notation=named.name,
        )
        for part in (frame.opening, frame.between, frame.closing):
            if left := [one for one in (*_NAMES, *_IDS, _ASKED, _FIRST, _SECOND, _SAID, _CALLED) if one in part]:
                raise ConfigError(
                    f"chat template: what it writes around results ({part[:80]!r}) holds other parts of the "
                    f"conversation ({left[0]!r}), so results can't be appended",
                    "use another one, or the tag recipe",
                )
        return frame

    def _with_results(self, asked: Message) -> tuple[str | None, str]:
        """A conversation with one result and one with two, rendered; None where there is no role for results."""
        from jinja2 import TemplateError

        one = (_NAMES[0], {"query": _CALLED}, _IDS[0])
        two = (_NAMES[1], {"query": _CALLED_TOO}, _IDS[1])
        results = [_tool(_FIRST, 0), _tool(_SECOND, 1)]
        whole = None
        for self._arguments_as_text in (False, True):
            try:
                whole = self.render([asked, self.called([one]), results[0]], generate=True)
            except (TemplateError, TypeError):
                continue
            if _CALLED in whole:
                break
        else:
            self._arguments_as_text = False
            if whole is not None:
                # It says nothing of a call, so the turn is found by what is said in it.
                whole = self.render([asked, self.called([one], _SAID), results[0]], generate=True)
        if whole is None or _FIRST not in whole:
            return None, ""
        said = "" if _CALLED in whole else _SAID
        try:
            several = self.render([asked, self.called([one, two], said), *results], generate=True)
            self.renders_two_calls = _SECOND in several and (bool(said) or _CALLED_TOO in several)
        except TemplateError:
            self.renders_two_calls = False
        if not self.renders_two_calls:
            try:
                several = self.render([asked, self.called([one], said), *results], generate=True)
            except TemplateError:
                several = ""
        return whole, several

    def _quoted(self, asked: Message) -> str:
        one = (_NAMES[0], {"query": _CALLED}, _IDS[0])
        return self.render([asked, self.called([one], "" if self.renders_calls else _SAID), _tool(_QUOTED, 0)])

    def _renders_tools(self, asked: Message) -> bool:
        from jinja2 import TemplateError

        try:
            return not self._tools or self.render([asked]) != self.render([asked], with_tools=False)
        except (TemplateError, TypeError):
            # It can't do without them.
            return True

    def _told_by_results(self) -> Notation:
        """Whose notation it is where the template leaves calls out and writes results as one family does."""
        source = str(getattr(self.tokenizer, "chat_template", None) or "")
        known = {token for token in self.tokenizer.get_added_vocab() if token in source}
        others = (one for one in NOTATIONS.values() if one.result_marks and one.result_marks != HERMES.result_marks)
        return next((one for one in others if known.issuperset(one.result_marks)), HERMES)

    def _keeps_turns(self, asked: Message) -> bool:
        plain = [asked, {"role": "assistant", "content": f"<think>\n{_FIRST}\n</think>\n\n{_SAID}"}]
        return _FIRST in self.render([*plain, asked])

    def _end_of_call(self, turn: str, turn_end: str) -> tuple[str, Notation | None]:
        """The control token with which a turn that calls ends, and the notation in which its call is read."""
        if not self.renders_calls:
            return turn_end, None
        after = turn.partition(_CALLED)[2]
        offset = len(turn) - len(after)
        for marker, place in self._markers(after):
            read = notation_of(turn[: offset + place], _NAMES[0], {"query": _CALLED})
            if read is not None and (marker in read.ends or marker not in (*read.marks, *read.thought)):
                return marker, read
        return self._first_marker(after), None

    def _markers(self, text: str) -> list[tuple[str, int]]:
        """The control tokens in ``text`` and where each stands, of several at one place the longest."""
        added = sorted((t for t in self.tokenizer.get_added_vocab() if t.strip() and t in text), key=len, reverse=True)
        found = re.compile("|".join(map(re.escape, added)) or "(?!)").finditer(text)
        return [(match.group(), match.start()) for match in found]

    def _first_marker(self, text: str) -> str:
        """The control token with which the template ends the model's turn.

        Raises:
            ConfigError: it writes none, so a turn would have no end.
        """
        tags = (CALL_OPEN, CALL_CLOSE, RESULT_OPEN, RESULT_CLOSE)
        markers = [marker for marker, _ in self._markers(text) if marker not in tags]
        if not markers:
            raise ConfigError(
                f"chat template: it ends the assistant's turn with {text[:40]!r}, which holds no special token, so the "
                "model could not end a turn",
                "use a checkpoint whose template closes turns, or the tag recipe",
            )
        return markers[0]


INSTRUCTIONS = (
    "You may call one or more functions to assist with the user query. Their signatures are:\n"
    f"<tools>\n{{tools}}\n</tools>\n\n"
    "For each call, write a JSON object with the function's name and arguments:\n"
    f'{CALL_OPEN}\n{{{{"name": <name>, "arguments": <arguments>}}}}\n{CALL_CLOSE}'
)
"""What a model is told whose template does not describe tools."""


def _tool(content: str, number: int) -> Message:
    return {"role": "tool", "name": _NAMES[number], "tool_call_id": _IDS[number], "content": content}


def _from_user(*results: str) -> Message:
    """Results where there is no role for them."""
    return {"role": "user", "content": "\n".join(f"{RESULT_OPEN}\n{one}\n{RESULT_CLOSE}" for one in results)}


def _slotted(text: str, *, first_is_next: bool) -> str:
    """``text`` with places for the names and ids of calls; of the first call where it is the one answered next."""
    name, call_id = (NEXT_NAME, NEXT_ID) if first_is_next else (LAST_NAME, LAST_ID)
    for mark, slot in ((_NAMES[0], name), (_IDS[0], call_id), (_NAMES[1], NEXT_NAME), (_IDS[1], NEXT_ID)):
        text = text.replace(mark, slot)
    return text


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
            "told",
            "use another template, or the tag recipe, which has no template between turns",
        )
    return rest
