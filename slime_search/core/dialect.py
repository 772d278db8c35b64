"""The socket for dialects: a model turn to an action, a tool result to token ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult

END_MARKER = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|return|call|end|eot|eom|END_OF_TURN_TOKEN|END_RESPONSE|user|observation)\|>"
    r"|<｜end▁of▁sentence｜>|<turn\|>|<\|tool_response>|<end_of_turn>|\[e~\[|</s>|<eos>"
)
"""What tokenizers write at the end of a turn."""


NO_RESULTS = "No results."
"""What the model reads of a search that found nothing."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One request to a tool, as the model wrote it.

    ``error`` says why it can't be carried out; such a call is answered with that sentence and not run. ``joins_last``
    says that it was written in one with the call before it, and is answered in the same message. ``call_id`` is what
    the model named it, where its family does.
    """

    tool: str
    query: str
    error: str | None = None
    joins_last: bool = False
    call_id: str = ""


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
    """The turn holds no well-formed action."""

    reason: str


Action = CallTools | Answer | Invalid


@dataclass(frozen=True, slots=True)
class Observation:
    """Token ids to append to the context, and the text they stand for.

    ``results`` is the text of each tool message in it, for a dialect that speaks in messages.
    """

    text: str
    token_ids: list[int]
    results: tuple[str, ...] = ()


class Format(Protocol):
    """What a model turn means; all that a reward needs of a dialect."""

    def parse(self, turn: str) -> Action:
        """The action of a whole model turn."""
        ...

    def is_well_formed(self, turn: str) -> bool:
        """Whether the turn is exactly what the format asks for, nothing missing and nothing added."""
        ...


class Dialect(Format, Protocol):
    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which the engine ends a turn; they stay in the tokens."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Markup with a meaning, which no tool text may forge."""
        ...

    def observation(
        self,
        codec: TokenCodec,
        action: CallTools,
        results: Sequence[ToolResult],
        max_tokens: int | None = None,
        *,
        turn_ids: Sequence[int] = (),
    ) -> Observation | None:
        """What the model reads back after the turn of these ids.

        At most ``max_tokens`` long; None when not even the frame fits.
        """
        ...

    def correction(self, codec: TokenCodec, invalid: Invalid, *, turn_ids: Sequence[int] = ()) -> Observation:
        """What the model reads after a turn without a valid action."""
        ...
