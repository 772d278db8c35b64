"""The record of one agent run: who wrote which token, what was searched, how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slime_search.dialects.base import Observation, ToolCall
from slime_search.engines.base import Completion, Finish
from slime_search.errors import DataError, ServiceError
from slime_search.tools.base import Passage, ToolResult


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


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens with one owner.

    ``log_probs`` holds one float a token: the engine's for the model, 0.0 for the world, None when the engine was not
    asked. ``finish`` is the engine's reason and None for the world. ``is_correction`` marks a world segment that
    answers an invalid action instead of returning a tool's result.
    """

    owner: Owner
    token_ids: list[int]
    text: str
    log_probs: list[float] | None
    finish: Finish | None = None
    is_correction: bool = False
    meta_info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.log_probs is not None and len(self.log_probs) != len(self.token_ids):
            raise DataError(f"log_probs: {len(self.log_probs)} values for {len(self.token_ids)} token ids")


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One tool call that returned. ``turn`` counts from 0; ``latency_s`` is wall time with queueing and retries."""

    turn: int
    tool: str
    query: str
    passages: tuple[Passage, ...]
    latency_s: float

    def to_record(self) -> dict[str, Any]:
        return {
            "turn": self.turn,
            "tool": self.tool,
            "query": self.query,
            "passages": [{"title": p.title, "text": p.text} for p in self.passages],
            "latency_s": self.latency_s,
        }


class Trajectory:
    """Prompt and segments, only ever appended to, so that each turn's context extends the last one bit by bit."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self.prompt_ids = list(prompt_ids)
        self.segments: list[Segment] = []
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

    def __len__(self) -> int:
        return len(self._token_ids)

    @property
    def response_ids(self) -> list[int]:
        return self._token_ids[len(self.prompt_ids) :]

    @property
    def loss_mask(self) -> list[int]:
        """1 for each response token that the model sampled, 0 for each that the world appended."""
        return [int(s.owner is Owner.MODEL) for s in self.segments for _ in s.token_ids]

    @property
    def log_probs(self) -> list[float] | None:
        """One value a response token; None when the engine gave none."""
        if any(s.log_probs is None for s in self.segments):
            return None
        return [value for s in self.segments for value in s.log_probs or ()]

    @property
    def response(self) -> str:
        return "".join(s.text for s in self.segments)

    def turns(self) -> Iterator[str]:
        """The text of each model turn. A turn that was aborted and resumed is one turn of several segments."""
        turn: list[str] = []
        for segment in self.segments:
            if segment.owner is Owner.MODEL:
                turn.append(segment.text)
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

    def add_completion(self, completion: Completion) -> None:
        self._append(
            Segment(
                Owner.MODEL,
                list(completion.token_ids),
                completion.text,
                None if completion.log_probs is None else list(completion.log_probs),
                finish=completion.finish,
                meta_info=completion.meta_info,
            )
        )

    def add_observation(self, observation: Observation, *, is_correction: bool = False) -> None:
        ids = list(observation.token_ids)
        self._append(Segment(Owner.WORLD, ids, observation.text, [0.0] * len(ids), is_correction=is_correction))

    def add_calls(self, calls: Sequence[ToolCall], results: Sequence[ToolResult], latencies_s: Sequence[float]) -> None:
        turn = self.tool_turns + self.corrections
        for call, result, latency_s in zip(calls, results, latencies_s, strict=True):
            self.calls.append(CallRecord(turn, call.tool, call.query, result.passages, latency_s))

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

    def _append(self, segment: Segment) -> None:
        self.segments.append(segment)
        self._token_ids.extend(segment.token_ids)

    def to_record(self) -> dict[str, Any]:
        """A JSON-ready summary that, with the token ids and log-probabilities kept elsewhere, rebuilds the object."""
        return {
            "segments": [
                {
                    "owner": s.owner.value,
                    "length": len(s.token_ids),
                    "text": s.text,
                    "finish": s.finish.value if s.finish else None,
                    "is_correction": s.is_correction,
                }
                for s in self.segments
            ],
            "calls": [call.to_record() for call in self.calls],
            "ending": self.ending.value if self.ending else None,
            "answer": self.answer,
            "error": self.error,
            "failed_service": self.failed_service,
        }

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], token_ids: Sequence[int], log_probs: Sequence[float] | None
    ) -> "Trajectory":
        """Rebuilds what ``to_record`` described.

        Args:
            token_ids: prompt and response.
            log_probs: one value a response token, or None.

        Raises:
            DataError: the record and the arrays disagree about the number of tokens.
        """
        response_length = sum(s["length"] for s in record["segments"])
        prompt_length = len(token_ids) - response_length
        if prompt_length < 0 or (log_probs is not None and len(log_probs) != response_length):
            raise DataError(
                f"record: segments hold {response_length} tokens, but there are {len(token_ids)} token ids and "
                f"{'no' if log_probs is None else len(log_probs)} log-probabilities"
            )
        trajectory = cls(token_ids[:prompt_length])
        start = 0
        for s in record["segments"]:
            end = start + s["length"]
            trajectory._append(
                Segment(
                    Owner(s["owner"]),
                    list(token_ids[prompt_length + start : prompt_length + end]),
                    s["text"],
                    None if log_probs is None else list(log_probs[start:end]),
                    finish=Finish(s["finish"]) if s["finish"] else None,
                    is_correction=s["is_correction"],
                )
            )
            start = end
        trajectory.calls = [
            CallRecord(**{**c, "passages": tuple(Passage(**p) for p in c["passages"])}) for c in record["calls"]
        ]
        trajectory.ending = Ending(record["ending"]) if record["ending"] else None
        trajectory.answer, trajectory.error = record["answer"], record["error"]
        trajectory.failed_service = record["failed_service"]
        return trajectory
