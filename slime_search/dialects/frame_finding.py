"""Finds what a chat template writes around tool results: it renders conversations of landmarks, and looks between."""

import json
import re
from typing import TYPE_CHECKING

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, call_block
from slime_search.dialects.chat_frame import CALL_IDS, LAST_ID, LAST_NAME, NEXT_ID, NEXT_NAME, ChatFrame, Message
from slime_search.dialects.notations import HERMES, NOTATIONS, Notation, notation_of
from slime_search.errors import ConfigError

if TYPE_CHECKING:
    from slime_search.dialects.chat_frame import ChatTemplate

_ASKED, _SAID, _CALLED, _CALLED_TOO = "Landmark asked", "Landmark said", "Landmark called", "Landmark recalled"
_FIRST, _SECOND = "Landmark one", "Landmark two"
_QUOTED = 'Landmark "quoted"'
_NAMES = "marked_first", "marked_second"
_IDS = CALL_IDS


class FrameFinder:
    """Asks one template. It also finds out, for the template, in which form calls are rendered at all.

    1. A conversation without calls shows the end of a turn, and what stands around what a user says.
    2. One with a call and its result, and one with two results, show the rest, between the landmarks in them:

            <|im_start|>assistant
            <tool_call>
            {"name": "marked_first", "arguments": {"query": "Landmark called"}}
            </tool_call><|im_end|>              the call's end: the first control token behind the call
            <|im_start|>user
            <tool_response>                     the opening: from there to the first result
            Landmark one
            </tool_response><|im_end|>          the closing: from the last result to the end
            <|im_start|>assistant

    3. The call, as it was written, is read in each known notation.
    4. Names and ids of calls in opening and closing become slots. Any other landmark there is a refusal.

    Args:
        named: the notation of calls, where the configuration names one.
    """

    def __init__(self, template: "ChatTemplate", named: Notation | None) -> None:
        self._template = template
        self._named = named

    def find(self) -> ChatFrame:
        """The frame.

        Raises:
            ConfigError: what stands around results can't be found.
        """
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
        answered = _after(self._template.render([asked, said, asked], generate=True), _SAID)
        turn_end = self._first_marker(answered.partition(_ASKED)[0])
        user_opening, _, user_closing = _after(answered, turn_end).partition(_ASKED)
        whole, several = self._with_results(asked)
        tool_role = whole is not None
        if whole is None:
            said = {**said, "content": _SAID + call_block({"name": _NAMES[0], "arguments": {"query": _CALLED}})}
            whole = self._template.render([asked, said, _from_user(_FIRST)], generate=True)
            several = self._template.render([asked, said, _from_user(_FIRST, _SECOND)], generate=True)
        # A plain template leaves out the call.
        self._template.renders_calls = _CALLED in whole
        turn = self._template.turn(whole, asked).partition(_FIRST)[0]
        call_end, read = self._end_of_call(turn if tool_role else _after(turn, _SAID), turn_end)
        named = self._named or read or self._told_by_results()
        rest = _after(_after(whole, _CALLED if self._template.renders_calls else _SAID), call_end)
        opening, _, closing = rest.partition(_FIRST)
        between = several.partition(_FIRST)[2].partition(_SECOND)[0]
        last = self._template.render([asked, {"role": "assistant", "content": _SAID}]).partition(_SAID)[2]
        ends = {turn_end, call_end, *named.ends, str(getattr(self._template.tokenizer, "eos_token", None) or "")}
        ends |= {self._first_marker(last)} if last.strip() else set()
        frame = ChatFrame(
            turn_end=turn_end,
            opening=_slotted(opening, first_is_next=True),
            between=_slotted(between, first_is_next=not self._template.renders_two_calls),
            closing=_slotted(closing, first_is_next=False),
            as_json=tool_role and json.dumps(_QUOTED) in self._quoted(asked),
            tool_role=tool_role,
            system_role=self._knows_system(),
            renders_tools=self._renders_tools(asked),
            keeps_turns=self._keeps_turns(asked),
            # A template that teaches calls and has no tool messages has them in another form than was asked of it.
            readable_calls=(read is not None or not self._template.renders_calls)
            if tool_role
            else not self._renders_tools(asked),
            call_end=call_end,
            user_opening=user_opening,
            user_closing=user_closing,
            ends=tuple(sorted(end for end in ends if end in self._template.tokenizer.get_added_vocab())),
            notation=named.name,
        )
        for part in (frame.opening, frame.between, frame.closing):
            if left := [mark for mark in (*_NAMES, *_IDS, _ASKED, _FIRST, _SECOND, _SAID, _CALLED) if mark in part]:
                raise ConfigError(
                    f"chat template: what it writes around results ({part[:80]!r}) holds other parts of the "
                    f"conversation ({left[0]!r}), so results can't be appended",
                    "use another one, or the tag recipe",
                )
        return frame

    def _with_results(self, asked: Message) -> tuple[str | None, str]:
        """A conversation with one result and one with two, rendered; None where there is no role for results."""
        from jinja2 import TemplateError

        first_call = (_NAMES[0], {"query": _CALLED}, _IDS[0])
        second_call = (_NAMES[1], {"query": _CALLED_TOO}, _IDS[1])
        results = [_tool(_FIRST, 0), _tool(_SECOND, 1)]
        whole = None
        for self._template.arguments_as_text in (False, True):
            try:
                whole = self._template.render([asked, self._template.called([first_call]), results[0]], generate=True)
            except (TemplateError, TypeError):
                continue
            if _CALLED in whole:
                break
        else:
            self._template.arguments_as_text = False
            if whole is not None:
                # It says nothing of a call, so the turn is found by what is said in it.
                whole = self._template.render(
                    [asked, self._template.called([first_call], _SAID), results[0]], generate=True
                )
        if whole is None or _FIRST not in whole:
            return None, ""
        said = "" if _CALLED in whole else _SAID
        try:
            several = self._template.render(
                [asked, self._template.called([first_call, second_call], said), *results], generate=True
            )
            self._template.renders_two_calls = _SECOND in several and (bool(said) or _CALLED_TOO in several)
        except TemplateError:
            self._template.renders_two_calls = False
        if not self._template.renders_two_calls:
            try:
                several = self._template.render(
                    [asked, self._template.called([first_call], said), *results], generate=True
                )
            except TemplateError:
                several = ""
        return whole, several

    def _knows_system(self) -> bool:
        from jinja2 import TemplateError

        try:
            return _SAID in self._template.render(
                [{"role": "system", "content": _SAID}, {"role": "user", "content": _ASKED}]
            )
        except TemplateError:
            return False

    def _quoted(self, asked: Message) -> str:
        first_call = (_NAMES[0], {"query": _CALLED}, _IDS[0])
        return self._template.render(
            [
                asked,
                self._template.called([first_call], "" if self._template.renders_calls else _SAID),
                _tool(_QUOTED, 0),
            ]
        )

    def _renders_tools(self, asked: Message) -> bool:
        from jinja2 import TemplateError

        try:
            return not self._template.tools or self._template.render([asked]) != self._template.render(
                [asked], with_tools=False
            )
        except (TemplateError, TypeError):
            # It can't do without them.
            return True

    def _told_by_results(self) -> Notation:
        """Whose notation it is where the template leaves calls out and writes results as one family does."""
        source = str(getattr(self._template.tokenizer, "chat_template", None) or "")
        known = {token for token in self._template.tokenizer.get_added_vocab() if token in source}
        others = (n for n in NOTATIONS.values() if n.result_marks and n.result_marks != HERMES.result_marks)
        return next((notation for notation in others if known.issuperset(notation.result_marks)), HERMES)

    def _keeps_turns(self, asked: Message) -> bool:
        plain = [asked, {"role": "assistant", "content": f"<think>\n{_FIRST}\n</think>\n\n{_SAID}"}]
        return _FIRST in self._template.render([*plain, asked])

    def _end_of_call(self, turn: str, turn_end: str) -> tuple[str, Notation | None]:
        """The control token with which a turn that calls ends, and the notation in which its call is read."""
        if not self._template.renders_calls:
            return turn_end, None
        after = turn.partition(_CALLED)[2]
        offset = len(turn) - len(after)
        for marker, position in self._markers(after):
            read = notation_of(turn[: offset + position], _NAMES[0], {"query": _CALLED})
            if read is not None and (marker in read.ends or marker not in (*read.marks, *read.thought)):
                return marker, read
        return self._first_marker(after), None

    def _markers(self, text: str) -> list[tuple[str, int]]:
        """The control tokens in ``text`` and where each stands, of several at one position the longest."""
        added = sorted(
            (t for t in self._template.tokenizer.get_added_vocab() if t.strip() and t in text), key=len, reverse=True
        )
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


def _tool(content: str, number: int) -> Message:
    return {"role": "tool", "name": _NAMES[number], "tool_call_id": _IDS[number], "content": content}


def _from_user(*results: str) -> Message:
    """Results where there is no role for them."""
    return {"role": "user", "content": "\n".join(f"{RESULT_OPEN}\n{result}\n{RESULT_CLOSE}" for result in results)}


def _slotted(text: str, *, first_is_next: bool) -> str:
    """``text`` with slots for the names and ids of calls; of the first call where it is the one answered next."""
    name, call_id = (NEXT_NAME, NEXT_ID) if first_is_next else (LAST_NAME, LAST_ID)
    for mark, slot in ((_NAMES[0], name), (_IDS[0], call_id), (_NAMES[1], NEXT_NAME), (_IDS[1], NEXT_ID)):
        text = text.replace(mark, slot)
    return text


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
