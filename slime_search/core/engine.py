"""The socket for engines: token ids in, token ids and log-probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Finish(StrEnum):
    """Why the engine ended a completion."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled for one request.

    ``log_probs`` (natural log, one per token, of the distribution sampled from) is None when they were not asked for.
    ``prompt_ids`` is what the engine conditioned on, where it rendered the conversation itself instead of taking the
    ids that it was sent. An engine's own text is left out, since it may say other than the ids (engines cut it behind a
    stop string, also inside a token); whoever needs text decodes the ids.
    """

    token_ids: list[int]
    log_probs: list[float] | None
    finish: Finish
    meta_info: Mapping[str, Any] = field(default_factory=dict)
    prompt_ids: list[int] | None = None


@dataclass(frozen=True, slots=True)
class ContextLimits:
    """What a server takes: a prompt of ``prompt_tokens`` at most, ``total_tokens`` with the completion."""

    prompt_tokens: int
    total_tokens: int


class Engine(Protocol):
    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        """Continues ``input_ids``.

        Raises:
            ServiceError: the engine failed after its retries.
            ProtocolError: the engine's answers can't be trained on.
        """
        ...

    async def context_limits(self) -> ContextLimits | None:
        """The server's limits; None where it does not tell them. Raises as ``generate`` does."""
        ...
