"""XML-like tags, as in Search-R1: ``<think>…</think>`` and then ``<search>…</search>`` or ``<answer>…</answer>``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from slime_search.core.dialect import (
    END_MARKER,
    NO_RESULTS,
    Action,
    Answer,
    CallTools,
    Invalid,
    Observation,
    ToolCall,
)
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.dialects.cutting import fit_blocks

CORRECTION = (
    "\nMy previous action is invalid. "
    "If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)


@dataclass(frozen=True)
class TagDialect:
    """Actions and observations between tags.

    ``tools`` maps a tool's tag to the tag in which its result comes back, ``{"search": "information"}`` for Search-R1.
    ``notes`` are tags of what the model writes down for itself beside its thoughts. With ``calls_per_turn`` over 1 each
    line of an action is a call of its own, and their results come back numbered.
    """

    tools: Mapping[str, str]
    answer: str = "answer"
    think: str = "think"
    notes: tuple[str, ...] = ()
    calls_per_turn: int = 1
    correction_text: str = field(default=CORRECTION, repr=False)

    @cached_property
    def stop(self) -> tuple[str, ...]:
        return tuple(f"</{tag}>" for tag in (*self.tools, self.answer))

    @cached_property
    def tags(self) -> tuple[str, ...]:
        names = (self.think, *self.notes, *self.tools, *self.tools.values(), self.answer)
        return tuple(tag for name in names for tag in (f"<{name}>", f"</{name}>"))

    def parse(self, turn: str) -> Action:
        """The one action of ``turn``.

        Thoughts and notes are ignored. A turn that writes a result tag plays the tool's part and is invalid, so
        whatever it claims to have found earns nothing; so is one with several or nested action tags (answer spam).
        """
        spoken = self._asides.sub("", turn)
        if fabricated := self._results.search(spoken):
            return Invalid(f"the turn writes {fabricated.group()}, which only a tool may")
        marks = self._actions.findall(spoken)
        if len(marks) != 2:
            return Invalid(f"the turn holds {len(marks)} action tags, not one opening and one closing")
        matched = self._action.search(spoken)
        if matched is None:
            return Invalid(f"the action tags {marks[0]} and {marks[1]} do not enclose anything")
        name, content = matched["name"], matched["content"].strip()
        if not content:
            return Invalid(f"<{name}> is empty")
        return Answer(content) if name == self.answer else self._calls(name, content)

    def _calls(self, tool: str, content: str) -> Action:
        if self.calls_per_turn == 1:
            return CallTools((ToolCall(tool, content),))
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        if len(lines) > self.calls_per_turn:
            return Invalid(f"<{tool}> holds {len(lines)} lines, and {self.calls_per_turn} are allowed")
        return CallTools(tuple(ToolCall(tool, line) for line in lines))

    def noted(self, tag: str, turn: str) -> list[str]:
        """What the notes of this tag in ``turn`` say; a note inside a thought is none."""
        return [match["text"] for match in self._asides.finditer(turn) if match["aside"] == tag]

    def is_well_formed(self, turn: str) -> bool:
        """One thought, one valid action after it, and only blanks or the tokenizer's end marker around them.

        In a dialect with notes, thoughts and notes in any order, at least one of them, take the thought's place.
        """
        return self._whole_turn.fullmatch(turn) is not None and not isinstance(self.parse(turn), Invalid)

    def observation(
        self,
        codec: TokenCodec,
        action: CallTools,
        results: Sequence[ToolResult],
        max_tokens: int | None = None,
        *,
        turn_ids: Sequence[int] = (),
    ) -> Observation | None:
        """The results of a turn between its tool's tags, a blank line around them."""
        tag = self.tools[action.calls[0].tool]
        opening, closing = f"\n\n<{tag}>", f"</{tag}>\n\n"
        before, after = codec.trusted(opening), codec.trusted(closing)
        room = None if max_tokens is None else max_tokens - len(before) - len(after)
        if room is not None and room < 0:
            return None
        body = fit_blocks(codec.between, _blocks(results), room)
        return Observation(f"{opening}{body.text}{closing}", before + body.token_ids + after)

    def correction(self, codec: TokenCodec, invalid: Invalid, *, turn_ids: Sequence[int] = ()) -> Observation:
        """Search-R1's sentence. Its tags are mentioned, not used, so they are encoded like any other text."""
        return Observation(self.correction_text, codec.untrusted(self.correction_text))

    @cached_property
    def _asides(self) -> re.Pattern[str]:
        """Thoughts and notes."""
        names = "|".join((self.think, *self.notes))
        return re.compile(rf"<(?P<aside>{names})>(?P<text>.*?)</(?P=aside)>", re.DOTALL)

    @cached_property
    def _results(self) -> re.Pattern[str]:
        # Without tools there is no tag that only a tool may write.
        return re.compile(rf"</?(?:{'|'.join(self.tools.values()) or '(?!)'})>")

    @cached_property
    def _actions(self) -> re.Pattern[str]:
        return re.compile(rf"</?(?:{'|'.join((*self.tools, self.answer))})>")

    @cached_property
    def _action(self) -> re.Pattern[str]:
        return re.compile(rf"<(?P<name>{'|'.join((*self.tools, self.answer))})>(?P<content>.*?)</(?P=name)>", re.DOTALL)

    @cached_property
    def _whole_turn(self) -> re.Pattern[str]:
        names = "|".join((*self.tools, self.answer))
        not_an_aside = rf"(?!</?(?:{'|'.join((self.think, *self.notes))})>)."
        asides = [rf"<{name}>(?:{not_an_aside})*</{name}>" for name in (self.think, *self.notes)]
        before = rf"(?:(?:{'|'.join(asides)})\s*)+" if self.notes else rf"{asides[0]}\s*"
        end_marker = rf"(?:{END_MARKER.pattern})?"
        action = rf"<(?P<name>{names})>(?:{not_an_aside})*?</(?P=name)>"
        return re.compile(rf"\s*{before}{action}\s*{end_marker}\s*", re.DOTALL)


def _blocks(results: Sequence[ToolResult]) -> list[str]:
    """What there is to read, in order; of several results each begins with its number."""
    if len(results) == 1:
        return list(results[0].blocks) or [NO_RESULTS]
    texts = (" ".join(result.blocks).strip() or NO_RESULTS for result in results)
    return [f"{number}. {text}\n" for number, text in enumerate(texts, start=1)]


SEARCH_R1_TAGS = TagDialect(tools={"search": "information"})
