"""The record of one agent run: who wrote which token, what was searched, how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slime_search.core.dialect import Observation, ToolCall
from slime_search.core.engine import Completion, Finish
from slime_search.core.tool import Passage, ToolResult
from slime_search.errors import DataError, ServiceError


class Owner(StrEnum):
    """Who wrote a segment: the policy, or the world (tools and corrections)."""

    MODEL = "model"
    WORLD = "world"


class Ending(StrEnum):
    """How a trajectory ended."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    """A token budget ran out: of a turn, or of the context."""
    OUT_OF_TURNS = "out_of_turns"
    """The model still wanted to act after its last allowed action."""
    ABORTED = "aborted"
    """The engine or the trainer stopped it; it can be resumed."""
    FAILED = "failed"
    """A service failed; nothing of it may be trained on. It can be resumed."""


UNSCORED = frozenset({Ending.FAILED, Ending.ABORTED})
"""Endings that say nothing about the model."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens with one owner.

    ``log_probs`` holds one float a token: the engine's for the model, 0.0 for the world, None when the engine was not
    asked. ``finish`` is the engine's reason and None for the world. ``is_correction`` marks a world segment that
    answers an invalid action instead of returning a tool's result. ``results`` is the text of each tool message in it.
    ``opened`` is what the chat template wrote for the model at the beginning of its turn, such as ``<think>``: it
    stands in the context before the tokens and counts as said.
    ``is_valid`` says of the model's segment that ends a turn whether that turn held a valid action, and is None of
    every other segment.
    """

    owner: Owner
    token_ids: list[int]
    text: str
    log_probs: list[float] | None
    finish: Finish | None = None
    is_correction: bool = False
    results: tuple[str, ...] = ()
    meta_info: Mapping[str, Any] = field(default_factory=dict)
    is_valid: bool | None = None
    opened: str = ""

    def judged(self, is_valid: bool) -> "Segment":
        """The same with ``is_valid`` set; written out, since ``dataclasses.replace`` takes ten times as long."""
        return Segment(
            self.owner,
            self.token_ids,
            self.text,
            self.log_probs,
            self.finish,
            self.is_correction,
            self.results,
            self.meta_info,
            is_valid,
            self.opened,
        )

    @property
    def said(self) -> str:
        """The text as its turn reads, with what the template opened it with."""
        return self.opened + self.text

    def __post_init__(self) -> None:
        if self.log_probs is not None and len(self.log_probs) != len(self.token_ids):
            raise DataError(f"log_probs: {len(self.log_probs)} values for {len(self.token_ids)} token ids")


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One tool call that returned. ``turn`` counts from 0; ``latency_s`` is wall time with queueing and retries.

    ``details`` is what else the tool reported of it, as plain JSON.
    """

    turn: int
    tool: str
    query: str
    passages: tuple[Passage, ...]
    latency_s: float
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(slots=True)
class Drift:
    """What became of turns whose prompt an engine rendered other than it was held. All counts are of this trajectory.

    ``realigned`` turns went on in the same context, at the price of ``lost_tokens`` sampled tokens that are no longer
    trained on; ``forked`` turns began a context of their own.
    """

    realigned: int = 0
    forked: int = 0
    lost_tokens: int = 0


class Trajectory:
    """Prompt and segments. Turns and observations are appended, so each context extends the last one bit by bit.

    An engine that renders conversations itself may break that. ``core.drift`` then replaces the few tokens that differ,
    which are no longer trained on, or ``fork`` begins a new context: ``segments`` goes on
    telling the whole story, while the token arrays speak of the present context only, and ``parts`` gives them all.
    """

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self.prompt_ids = list(prompt_ids)
        self.segments: list[Segment] = []
        self.drift = Drift()
        self._contexts: list[tuple[list[int], int]] = [(self.prompt_ids, 0)]
        self.calls: list[CallRecord] = []
        self.ending: Ending | None = None
        self.answer: str | None = None
        self.error: str | None = None
        self.failed_service: str | None = None
        self._token_ids = list(prompt_ids)

    @property
    def token_ids(self) -> list[int]:
        """Prompt and response: exactly what the next engine request sends."""
        return self._token_ids.copy()

    def tail(self, count: int) -> list[int]:
        """The last ``count`` of ``token_ids``, or all where there are fewer."""
        return self._token_ids[-count:]

    def __len__(self) -> int:
        return len(self._token_ids)

    @property
    def response_ids(self) -> list[int]:
        return self._token_ids[len(self.prompt_ids) :]

    @property
    def loss_mask(self) -> list[int]:
        """1 for each response token that the model sampled, 0 for each that the world appended."""
        return [int(s.owner is Owner.MODEL) for s in self.context_segments for _ in s.token_ids]

    @property
    def log_probs(self) -> list[float] | None:
        """One value a response token; None when the engine gave none."""
        if any(s.log_probs is None for s in self.context_segments):
            return None
        return [value for s in self.context_segments for value in s.log_probs or ()]

    @property
    def response(self) -> str:
        return "".join(s.text for s in self.context_segments)

    @property
    def context_segments(self) -> list[Segment]:
        """The segments of the present context: all of them, unless the trajectory was forked."""
        return self.segments[self._contexts[-1][1] :]

    @property
    def first_prompt_ids(self) -> list[int]:
        """The prompt that the story began with, whatever contexts came after."""
        return self._contexts[0][0]

    @property
    def is_forked(self) -> bool:
        return len(self._contexts) > 1

    def restart(self, prompt_ids: Sequence[int]) -> None:
        """Begins the present context, in which nothing was said yet, with another prompt."""
        self.prompt_ids = list(prompt_ids)
        self._contexts[-1] = (self.prompt_ids, len(self.segments))
        self._token_ids = list(prompt_ids)

    def fork(self, prompt_ids: Sequence[int]) -> None:
        """Goes on from a context that is not an extension of the present one."""
        self.prompt_ids = list(prompt_ids)
        self._contexts.append((self.prompt_ids, len(self.segments)))
        self._token_ids = list(prompt_ids)

    def parts(self) -> "list[Trajectory]":
        """One trajectory a context, each with the prompt that its engine requests extended.

        The last holds ending, answer and error; each holds the calls of its own turns.
        """
        if not self.is_forked:
            return [self]
        parts = []
        ends = [start for _, start in self._contexts[1:]] + [len(self.segments)]
        for (prompt_ids, start), end in zip(self._contexts, ends, strict=True):
            part = Trajectory(prompt_ids)
            for segment in self.segments[start:end]:
                part.append(segment)
            turns = sum(s.owner is Owner.WORLD for s in self.segments[:start])
            past = turns + sum(s.owner is Owner.WORLD for s in part.segments)
            # Results without room in the context were called for in the last turn, and no segment holds them.
            is_last = end == len(self.segments)
            part.calls = [call for call in self.calls if turns <= call.turn and (is_last or call.turn < past)]
            parts.append(part)
        last = parts[-1]
        last.ending, last.answer, last.error = self.ending, self.answer, self.error
        last.failed_service, last.drift = self.failed_service, self.drift
        return parts

    @classmethod
    def join(cls, parts: "Sequence[Trajectory]") -> "Trajectory":
        """What ``parts`` took apart: the whole story, in the last part's context."""
        last = parts[-1]
        whole = cls(parts[0].prompt_ids)
        for part in parts:
            if part is not parts[0]:
                whole.fork(part.prompt_ids)
            for segment in part.segments:
                whole.append(segment)
        whole.calls = [call for part in parts for call in part.calls]
        whole.ending, whole.answer, whole.error = last.ending, last.answer, last.error
        whole.failed_service, whole.drift = last.failed_service, last.drift
        return whole

    def turns(self) -> Iterator[str]:
        """The text of each model turn, with what the chat template opened it with.

        A turn that was aborted and resumed is one turn of several segments.
        """
        turn: list[str] = []
        for segment in self.segments:
            if segment.owner is Owner.MODEL:
                turn.append(segment.said)
            else:
                yield "".join(turn)
                turn = []
        if turn:
            yield "".join(turn)

    @property
    def open_turn(self) -> list[Segment]:
        """The model's segments since the world last spoke."""
        start = len(self.segments)
        while start and self.segments[start - 1].owner is Owner.MODEL:
            start -= 1
        return self.segments[start:]

    def token_before(self, turn: Sequence[Segment]) -> int | None:
        """The token in front of ``turn``, the last segments; None where nothing stands there."""
        end = len(self._token_ids) - sum([len(segment.token_ids) for segment in turn])
        return self._token_ids[end - 1] if end else None

    @property
    def awaits_model(self) -> bool:
        """Whether the engine is to speak next: at the start, after an observation, and inside an aborted turn."""
        return not self.segments or self.segments[-1].finish in (None, Finish.ABORT)

    @property
    def tool_turns(self) -> int:
        return sum(s.owner is Owner.WORLD and not s.is_correction for s in self.segments)

    @property
    def corrections(self) -> int:
        return sum(s.is_correction for s in self.segments)

    def add_completion(self, completion: Completion, text: str, *, opened: str = "") -> None:
        """Appends what an engine sampled.

        Args:
            text: that of its ids.
            opened: what the template wrote for the model to go on from.
        """
        self.append(
            Segment(
                Owner.MODEL,
                list(completion.token_ids),
                text,
                None if completion.log_probs is None else list(completion.log_probs),
                finish=completion.finish,
                meta_info=completion.meta_info,
                opened=opened,
            )
        )

    def add_observation(self, observation: Observation, *, is_correction: bool = False) -> None:
        ids = list(observation.token_ids)
        self.append(
            Segment(
                Owner.WORLD,
                ids,
                observation.text,
                [0.0] * len(ids),
                is_correction=is_correction,
                results=observation.results,
            )
        )

    def drop_open_turn(self) -> int:
        """Takes back what the model began to say since the world last spoke; returns how many tokens that were."""
        dropped = 0
        while len(self.segments) > self._contexts[-1][1] and self.segments[-1].owner is Owner.MODEL:
            dropped += len(self.segments.pop().token_ids)
        if dropped:
            del self._token_ids[-dropped:]
        return dropped

    def replace_last(self, segments: Sequence[Segment]) -> None:
        """Puts ``segments`` in the place of as many at the end of the present context."""
        for old in self.segments[-len(segments) :]:
            del self._token_ids[len(self._token_ids) - len(old.token_ids) :]
        del self.segments[-len(segments) :]
        for segment in segments:
            self.append(segment)

    def judge_turn(self, *, is_valid: bool) -> None:
        """Notes whether the turn that just ended held a valid action."""
        self.segments[-1] = self.segments[-1].judged(is_valid)

    def add_calls(self, calls: Sequence[ToolCall], results: Sequence[ToolResult], latencies_s: Sequence[float]) -> None:
        turn = self.tool_turns + self.corrections
        for call, result, latency_s in zip(calls, results, latencies_s, strict=True):
            if call.error is not None:
                continue
            self.calls.append(CallRecord(turn, call.tool, call.query, result.passages, latency_s, result.details))

    def end(self, ending: Ending, *, answer: str | None = None) -> None:
        self.ending = ending
        self.answer = answer

    def fail(self, error: ServiceError) -> None:
        self.ending = Ending.FAILED
        self.error = str(error)
        self.failed_service = error.service

    def reopen(self) -> None:
        """Clears an ending that can be resumed from; the next step picks up where the last one stopped."""
        if self.ending not in (None, Ending.ABORTED, Ending.FAILED):
            raise DataError(
                f"ending: a trajectory that ended {self.ending} can't be resumed, only an aborted or failed"
            )
        self.ending = self.error = self.failed_service = None

    def append(self, segment: Segment) -> None:
        self.segments.append(segment)
        self._token_ids.extend(segment.token_ids)
