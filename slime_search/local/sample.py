"""slime's ``Sample`` where slime is installed, and a class with the same fields where it is not."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from slime_search.errors import DataError


@dataclass
class LocalSample:
    """The fields of slime's ``Sample`` that rollouts, rewards and the embedded trainer use, with the same meaning.

    ``loss_mask``, ``rollout_log_probs`` and, where there is a teacher, ``teacher_log_probs`` hold one value a response
    token, ``tokens`` prompt and response.
    """

    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str | list[dict[str, str]] = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: Any = None
    reward: float | None = None
    loss_mask: list[int] | None = None
    weight_versions: list[str] = field(default_factory=list)
    rollout_log_probs: list[float] | None = None
    teacher_log_probs: list[float] | None = None
    remove_sample: bool = False

    class Status(Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    status: Status = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    non_generation_time: float = 0.0

    def get_reward_value(self, args: Any) -> float:
        if self.reward is None:
            raise DataError(f"sample {self.index}: reward is not set")
        return self.reward

    def append_response_tokens(
        self,
        args: Any = None,
        *,
        tokens: list[int],
        log_probs: list[float] | None = None,
        trainable: bool = True,
        meta_info: dict[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """Appends tokens with their mask and log-probabilities, which stay aligned.

        Raises:
            DataError: trained tokens come without log-probabilities, or with another number of them.
        """
        if trainable and tokens and (log_probs is None or len(log_probs) != len(tokens)):
            raise DataError(f"log_probs: {log_probs and len(log_probs)} values for {len(tokens)} trained tokens")
        self.tokens = [*self.tokens, *tokens]
        self.loss_mask = [*(self.loss_mask or ()), *[int(trainable)] * len(tokens)]
        self.rollout_log_probs = [*(self.rollout_log_probs or ()), *(log_probs or [0.0] * len(tokens))]
        self.response_length += len(tokens)
        self.response += text or ""
        if meta_info and "weight_version" in meta_info:
            self.weight_versions.append(meta_info["weight_version"])


def sample_class() -> type[Any]:
    """slime's class if slime can be imported, else LocalSample."""
    try:
        from slime.utils.types import Sample
    except ImportError:
        return LocalSample
    return Sample  # type: ignore[no-any-return]
