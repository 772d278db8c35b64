"""A conversation as the teacher's own chat template and tokenizer write it, and where the student's turns are in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Owner, Segment
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.dialects.tool_calls import MARKUP, FunctionTool, ToolCallDialect
from slime_search.recipes.distillation.alignment import Run, chained, normalised, readable, shifted
from slime_search.recipes.distillation.calls import CallNotation, Piece, with_thought
from slime_search.recipes.distillation.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the student in both tokenizations: what ``alignment.transfer`` asks for.

    The teacher's tokens of it are those from index ``start`` of the rendered conversation on.
    """

    start: int
    student_sizes: list[int]
    teacher_sizes: list[int]
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The whole conversation in the teacher's tokens, and each turn of the student's in it."""

    token_ids: list[int]
    turns: list[Turn]


class TeacherView:
    """Renders trajectories for a teacher.

    Prompt, tool results and the frame around them are written by the teacher's template, in the same way as the
    student's are by its own: found out once, appended ever after. A turn stands there in the student's words.

    Args:
        tokenizer: the teacher's, with its template.
        template_kwargs: for that template.
        student_tokenizer: the policy's.
        student_template: the policy's.
        tools: what the policy may call.

    Raises:
        ConfigError: a template or tokenizer can't be used for this; it says why.
    """

    def __init__(
        self,
        tokenizer: Any,
        template_kwargs: Mapping[str, Any],
        *,
        student_tokenizer: Any,
        student_template: ChatTemplate,
        tools: Sequence[FunctionTool],
    ) -> None:
        self._template = ChatTemplate(tokenizer, [tool.schema for tool in tools], template_kwargs)
        self._student_template = student_template
        self._dialect = ToolCallDialect(tools, self._template)
        self._codec = TokenCodec(tokenizer, MARKUP)
        self._bytes, self._student_bytes = TokenBytes(tokenizer, MARKUP), TokenBytes(student_tokenizer, MARKUP)
        self._notation = CallNotation(student_template, self._template)
        self._end_ids = self._codec.trusted(self._template.frame.turn_end)
        added = tokenizer.get_added_vocab()
        self._markup = re.compile(f"({'|'.join(re.escape(m) for m in MARKUP if m in added) or '(?!)'})")
        control = [t for t in added if t not in MARKUP and t.strip()]
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")

    def render(self, messages: Sequence[Message], segments: Sequence[Segment]) -> Rendered:
        """The conversation that ``messages`` began and ``segments`` went on with.

        Raises:
            DataError: the teacher's tokenizer can't write a text of it without control tokens.
        """
        prompt = self._template.prompt(messages)
        ids = list(self._codec.prompt(prompt))
        thinking = _is_thinking(self._student_template.prompt(messages)), _is_thinking(prompt)
        turns: list[Turn] = []
        turn_ids: list[int] = []
        for owner, group in groupby(segments, key=lambda segment: segment.owner):
            if owner is Owner.MODEL:
                turn_ids, turn = self._turn(list(group), len(ids), thinking)
                turns.append(turn)
                ids += turn_ids
            else:
                for segment in group:
                    said = segment.results or (segment.text,)
                    ids += self._dialect.tool_messages(self._codec, said, turn_ids=turn_ids).token_ids
                    turn_ids = []
                frames = self._student_template.frame.closing, self._template.frame.closing
                thinking = _is_thinking(frames[0]), _is_thinking(frames[1])
        return Rendered(ids, turns)

    def _turn(self, said: Sequence[Segment], start: int, thinking: tuple[bool, bool]) -> tuple[list[int], Turn]:
        student_ids = [i for segment in said for i in segment.token_ids]
        end = self._student_bytes.special(student_ids[-1]) if student_ids else None
        pieces = self._student_bytes.of(student_ids)
        sizes = [len(piece) for piece in pieces]
        text, runs = readable(b"".join(pieces))
        whole = "".join(segment.text for segment in said)
        if end is None and whole.startswith(text):
            # Where an engine read the last words in other tokens, only the text still has them.
            text = whole.removesuffix(self._student_template.frame.turn_end)
        shown = with_thought(
            self._notation.pieces(text), student_is_thinking=thinking[0], teacher_is_thinking=thinking[1]
        )
        ids, teacher_sizes, onward = self._encode("".join(piece.text for piece in shown))
        runs = chained(chained(runs, _runs_of(text, shown)), onward)
        if end is not None:
            if end == self._template.frame.turn_end and len(self._end_ids) == 1:
                # Both end a turn with this token, which has no bytes: it counts as one that they share.
                runs.append(Run(sum(sizes), sum(teacher_sizes), 1))
                sizes[-1] = 1
            ids += self._end_ids
            teacher_sizes += [1] * len(self._end_ids)
        return ids, Turn(start, sizes, teacher_sizes, runs)

    def _encode(self, text: str) -> tuple[list[int], list[int], list[Run]]:
        """The teacher's tokens of ``text``, the bytes of each, and where those are the bytes of ``text``."""
        ids: list[int] = []
        sizes: list[int] = []
        runs: list[Run] = []
        size = made = 0
        for piece in filter(None, self._markup.split(text)):
            # What the student wrote may look like a control token of the teacher's, and must not become one.
            own_ids = self._codec.untrusted(piece) if self._control.search(piece) else self._codec.trusted(piece)
            tokens = self._bytes.of(own_ids)
            own_sizes = [len(token) for token in tokens]
            got = b"".join(tokens)
            if got == b" " + self._bytes.normalise(piece).encode():
                # Sentencepiece puts a blank before a text.
                got = got[1:]
                own_sizes[next(index for index, own_size in enumerate(own_sizes) if own_size)] -= 1
            runs += shifted(normalised(piece, got, self._bytes.normalise), size, made)
            ids += own_ids
            sizes += own_sizes
            size += len(piece.encode())
            made += len(got)
        return ids, sizes, runs


def _runs_of(text: str, pieces: Sequence[Piece]) -> list[Run]:
    """Where ``text`` stands in the pieces that the teacher reads."""
    runs: list[Run] = []
    character = byte = made = 0
    for piece in pieces:
        length = len(piece.text.encode())
        if piece.at is not None and length:
            byte += len(text[character : piece.at].encode())
            character = piece.at
            runs.append(Run(byte, made, length))
        made += length
    return runs


def _is_thinking(prompt: str) -> bool:
    """Whether what stands before a turn opens its thought."""
    return prompt.rstrip().endswith("<think>")
