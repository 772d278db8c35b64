"""slime's ``Sample`` and ``args`` as types, as far as they are read here, and a sample for use without slime."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

from slime_search.engines import nucleus
from slime_search.errors import DataError

Messages: TypeAlias = list[dict[str, Any]]
"""A conversation in OpenAI's format."""
Reward: TypeAlias = float | dict[str, Any]
"""A number; under ``--reward-key`` or ``--eval-reward-key`` a dict that holds it under that key."""


class Args(Protocol):
    """slime's arguments, as far as they are read by name.

    What only some runs have, or what older versions of slime lack, is read by ``option``.
    """

    hf_checkpoint: str
    sglang_router_ip: str
    sglang_router_port: int
    sglang_server_concurrency: int
    prompt_data: str
    rollout_batch_size: int
    n_samples_per_prompt: int
    global_batch_size: int
    num_rollout: int
    save: str | None
    reward_key: str | None
    loss_type: str
    advantage_estimator: str
    rewards_normalization: bool
    grpo_std_normalization: bool
    normalize_advantages: bool
    calculate_per_token_loss: bool
    use_rollout_entropy: bool
    rollout_top_p: float
    opd_kl_coef: float


def option(args: Args, name: str, default: Any = None) -> Any:
    """An argument of slime, or ``default`` where this run has none of that name."""
    return getattr(args, name, default)


class Sample(Protocol):
    """slime's sample. ``loss_mask`` and the log-probabilities hold one value a response token.

    With --rollout-top-p below 1 the nucleus of response token ``i`` is ``rollout_top_p_token_ids[o[i] : o[i + 1]]``,
    with the offsets ``o``. ``rollout_routed_experts`` holds a row a token but the last, of the experts in each layer.

    ``tokens`` are those of prompt and response, of which the last ``response_length`` are the response's.
    """

    group_index: int | None
    index: int | None
    rollout_id: int | None
    prompt: str | Messages
    tokens: list[int]
    response: str
    response_length: int
    label: Any
    reward: Reward | None
    loss_mask: list[int] | None
    weight_versions: list[str]
    rollout_log_probs: list[float] | None
    teacher_log_probs: list[float] | None
    rollout_top_p_token_ids: Any
    rollout_top_p_token_offsets: Any
    rollout_routed_experts: Any
    remove_sample: bool
    status: Enum
    metadata: dict[str, Any]
    session_id: str | None
    non_generation_time: float

    def get_reward_value(self, args: Any) -> float:
        """The number in ``reward``, which under ``--reward-key`` is a dict."""
        ...

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
        """Appends tokens with their mask and log-probabilities."""
        ...


class DataSource(Protocol):
    """slime's data source."""

    def get_samples(self, num_samples: int) -> list[list[Sample]]:
        """So many groups."""
        ...


@dataclass
class LocalSample:
    """The fields of slime's ``Sample`` that rollouts, rewards and the embedded trainer use, with the same meaning."""

    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str | Messages = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: Any = None
    reward: Reward | None = None
    loss_mask: list[int] | None = None
    weight_versions: list[str] = field(default_factory=list)
    rollout_log_probs: list[float] | None = None
    teacher_log_probs: list[float] | None = None
    rollout_top_p_token_ids: list[int] | None = None
    rollout_top_p_token_offsets: list[int] | None = None
    rollout_routed_experts: list[Any] | None = None
    remove_sample: bool = False

    class Status(Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    status: Enum = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    non_generation_time: float = 0.0

    def get_reward_value(self, args: Any) -> float:
        if self.reward is None:
            raise DataError(f"sample {self.index}: reward is not set")
        key = getattr(args, "reward_key", None)
        return self.reward[key] if key else self.reward  # type: ignore[index, return-value]

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
        if tokens and self.rollout_top_p_token_ids is not None and self.rollout_top_p_token_offsets is not None:
            ids, offsets = nucleus.told(meta_info or {}) or ((), [0] * (len(tokens) + 1))
            start = self.rollout_top_p_token_offsets[-1]
            self.rollout_top_p_token_ids += ids
            self.rollout_top_p_token_offsets += [start + offset for offset in offsets[1:]]
        if meta_info and "routed_experts" in meta_info:
            width = args.num_layers * args.moe_router_topk
            flat = nucleus.unpacked(meta_info["routed_experts"])
            known = (self.rollout_routed_experts or [])[: meta_info.get("routed_experts_start_len", 0)]
            self.rollout_routed_experts = [*known, *(list(flat[n : n + width]) for n in range(0, len(flat), width))]
        if meta_info and "weight_version" in meta_info:
            self.weight_versions.append(meta_info["weight_version"])


def sample_class() -> type[Any]:
    """slime's class if slime can be imported, else LocalSample."""
    try:
        from slime.utils.types import Sample as SlimeSample
    except ImportError:
        return LocalSample
    return SlimeSample  # type: ignore[no-any-return]


def reward_in_slimes_form(args: Args, value: float, category: str = "none") -> Reward:
    """A reward as slime reads it back: under each of ``--reward-key`` and ``--eval-reward-key``, or the bare number.

    ``category`` stands under ``--log-reward-category``, which slime looks for in every sample's reward.
    """
    keys = {key for key in (option(args, "reward_key"), option(args, "eval_reward_key")) if key}
    if not keys:
        return value
    named = option(args, "log_reward_category")
    return {**({named: category} if named else {}), **dict.fromkeys(sorted(keys), value)}


def reward_number(reward: Reward | None) -> float | None:
    """The number in a reward, where it is one or a dict that holds no other; None where that can't be told."""
    held = set(reward.values()) if isinstance(reward, dict) else {reward}
    numbers = {value for value in held if isinstance(value, int | float)}
    return float(numbers.pop()) if len(numbers) == 1 else None
