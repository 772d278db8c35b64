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
    ``text`` is the engine's own decoding, good for reading and never for tokenising again. ``prompt_ids`` is what the
    engine conditioned on, where it rendered the conversation itself instead of taking the ids that it was sent.
    """

    token_ids: list[int]
    log_probs: list[float] | None
    text: str
    finish: Finish
    meta_info: Mapping[str, Any] = field(default_factory=dict)
    prompt_ids: list[int] | None = None


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
