"""The socket for dialects: a model turn to an action, a tool result to token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slime_search.tokens import TokenCodec
from slime_search.tools.base import ToolResult


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One request to a tool, as the model wrote it."""

    tool: str
    query: str


@dataclass(frozen=True, slots=True)
class CallTools:
    """The model calls one or several tools in this turn."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The model gives its final answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """The turn holds no single well-formed action."""

    reason: str


Action = CallTools | Answer | Invalid


@dataclass(frozen=True, slots=True)
class Observation:
    """Token ids to append to the context, and the text they stand for."""

    text: str
    token_ids: list[int]


class Dialect(Protocol):
    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which the engine ends a turn; they stay in the tokens."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Markup with a meaning, which no tool text may forge."""
        ...

    def parse(self, turn: str) -> Action:
        """The action of a whole model turn."""
        ...

    def is_well_formed(self, turn: str) -> bool:
        """Whether the turn is exactly what the format asks for, nothing missing and nothing added."""
        ...

    def observation(
        self, codec: TokenCodec, action: CallTools, results: Sequence[ToolResult], max_tokens: int | None = None
    ) -> Observation | None:
        """What the model reads back, at most ``max_tokens`` long; None when not even the frame fits."""
        ...

    def correction(self, codec: TokenCodec, invalid: Invalid) -> Observation:
        """What the model reads after a turn without a valid action."""
        ...
