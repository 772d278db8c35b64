"""Contexts without earlier thoughts, as a chat template leaves them when it renders a conversation again.

A server that is sent messages lets its template drop what a model thought in earlier turns (DeepSeek R1, QwQ). A policy
that will be served so can be trained so: each turn's context is then another one than the last turn's with more after
it, and begins a further sample of the rollout. Which thoughts are dropped, and what is left in their place, the
template is asked once. What the model said beside them keeps the tokens that were sampled.
"""

import bisect
from collections.abc import Sequence

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Owner, Trajectory
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.errors import ConfigError

_ASKED: Message = {"role": "user", "content": "Landmark asked"}
_THOUGHTS = "Landmark thought", "Landmark reconsidered"
_IDS = "markedid1", "markedid2"
_RESULTS = "Landmark one", "Landmark two"


class ThoughtDropper:
    """What the template of a policy makes of earlier turns.

    Raises:
        ConfigError: what it leaves of a turn can't be told.
    """

    def __init__(self, template: ChatTemplate, codec: TokenCodec) -> None:
        self._template, self._codec = template, codec
        self._closing_mark = template.notation.thought[1]
        rendered = template.render(self._conversation(), generate=True)
        self.keeps_all = _THOUGHTS[0] in rendered
        self.keeps_last = _THOUGHTS[1] in rendered
        """Whether the last turn's thought stays until another turn follows."""
        if self.keeps_all:
            return
        prompt = template.render([_ASKED], generate=True)
        common = template.common_beginning(rendered, prompt)
        start = rendered.find(self._call(0), common)
        if start < 0:
            raise ConfigError(
                "chat.thoughts = 'template': the chat template drops earlier thoughts and writes calls of such turns "
                "otherwise, so what a server would render can't be told",
                'set chat.thoughts = "keep"',
            )
        self._opening = rendered[common:start]
        self._opened = prompt[common:]

    def context(self, trajectory: Trajectory) -> list[int]:
        """The token ids after which a server of messages would let the model go on, where it is to begin a turn."""
        held = trajectory.token_ids
        segments = trajectory.segments
        if self.keeps_all or not segments:
            return held
        last_turn = max((n for n, s in enumerate(segments) if s.owner is Owner.MODEL), default=-1)
        ids = list(trajectory.first_prompt_ids)
        turn: list[int] = []
        for number, segment in enumerate(segments):
            if segment.owner is Owner.MODEL:
                turn += segment.token_ids
                following = segments[number + 1] if number + 1 < len(segments) else None
                if following is not None and following.owner is Owner.MODEL:
                    continue
                end = None if self.keeps_last and number == last_turn else self._end_of_thought(turn)
                if end is not None:
                    ids = self._opened_otherwise(ids)
                ids += turn[end or 0 :]
                turn = []
            else:
                ids += segment.token_ids
        return ids

    def _opened_otherwise(self, ids: list[int]) -> list[int]:
        """``ids`` with a turn's beginning at their end, as the template writes it for a turn without its thought.

        That beginning is the template's own, from the last control token on.
        """
        opened = self._codec.trusted(self._opened)
        start = len(ids) - len(opened) if opened and ids[-len(opened) :] == opened else len(ids)
        ids = ids[:start]
        while start and ids[start - 1] not in self._codec.control_ids:
            start -= 1
        text = self._codec.tokenizer.decode(ids[start:], skip_special_tokens=False)
        return [*ids[:start], *self._codec.trusted(text + self._opening)]

    def _end_of_thought(self, turn: Sequence[int]) -> int | None:
        """How many tokens the thought and the blanks after it are."""

        def said(length: int) -> str:
            return self._codec.tokenizer.decode(list(turn[:length]), skip_special_tokens=False)

        if self._closing_mark not in said(len(turn)):
            return None
        end = bisect.bisect_left(range(len(turn)), True, key=lambda n: self._closing_mark in said(n))
        while end < len(turn) and not self._codec.tokenizer.decode([turn[end]], skip_special_tokens=False).strip():
            end += 1
        return end

    def _conversation(self) -> list[Message]:
        opening, closing = self._template.notation.thought
        messages = [_ASKED]
        for number, thought in enumerate(_THOUGHTS):
            call = ("search", {"query": f"Landmark {number}"}, _IDS[number])
            said = f"{opening}\n{thought}\n{closing}\n\n"
            result = {"role": "tool", "name": "search", "tool_call_id": _IDS[number], "content": _RESULTS[number]}
            messages += [self._template.called([call], said), result]
        return messages

    def _call(self, number: int) -> str:
        return self._template.call("search", {"query": f"Landmark {number}"})
