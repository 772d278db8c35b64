"""Drives a recipe's two hooks as slime's rollout does: generate, then reward, many samples at once."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

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


class Recipe(Protocol):
    """The two hooks that every recipe has."""

    @property
    def generate(self) -> Callable[..., Awaitable[Any]]: ...
    @property
    def reward_func(self) -> Callable[..., Awaitable[Any]]: ...


class Seeded:
    """A recipe whose every rollout is sampled with the seed that ``seed_of`` its sample says."""

    def __init__(self, recipe: Recipe, seed_of: Callable[[Any], int]) -> None:
        self._recipe = recipe
        self._seed_of = seed_of
        self.reward_func = recipe.reward_func

    async def generate(self, args: Any, sample: Any, params: Mapping[str, Any]) -> Any:
        return await self._recipe.generate(args, sample, {**params, "sampling_seed": self._seed_of(sample)})


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished and rewarded rollout: its samples, the one that answers last, and its wall time in seconds."""

    samples: list[Any]
    wall_s: float


def sampling_params(*, temperature: float, max_new_tokens: int, top_p: float = 1.0) -> dict[str, Any]:
    """The fields that slime's rollout sends. ``max_new_tokens`` are a turn's."""
    return {
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "skip_special_tokens": False,
        "no_stop_trim": True,
        "spaces_between_special_tokens": False,
    }


async def drive(
    recipe: Recipe, args: Any, sample: Any, params: Mapping[str, Any], *, evaluation: bool = False
) -> Finished:
    """One rollout from its prompt to its reward, which a sample without a label does not get.

    With ``evaluation`` a recipe of several agents returns the answering one's sample alone.

    Raises:
        SlimeSearchError: what the recipe's hooks raise.
    """
    # As slime does it, for recipes that tell an evaluation from a rollout.
    takes = "evaluation" in inspect.signature(recipe.generate).parameters
    began = time.perf_counter()
    made = await recipe.generate(args, sample, params, **({"evaluation": evaluation} if takes else {}))
    samples = made if isinstance(made, list) else [made]
    if sample.label is not None and any(one.reward is None for one in samples):
        # As slime does it: one sample is rewarded by itself, and a list as a list.
        told = await recipe.reward_func(args, made)
        for one, reward in zip(samples, told if isinstance(made, list) else [told], strict=True):
            one.reward = reward
    return Finished(samples, time.perf_counter() - began)


async def drive_all(
    recipe: Recipe,
    args: Any,
    samples: Iterable[Any],
    params: Mapping[str, Any],
    *,
    concurrency: int,
    evaluation: bool = False,
) -> AsyncIterator[tuple[int, Finished]]:
    """Each sample's place and rollout as soon as it is finished, ``concurrency`` of them on their way at a time.

    ``samples`` is read as it goes, so it may be long. When a rollout raises, or the caller stops listening, the others
    are cancelled.
    """
    waiting = enumerate(samples)
    running: dict[asyncio.Task[Finished], int] = {}
    try:
        while True:
            while len(running) < concurrency and (following := next(waiting, None)) is not None:
                place, sample = following
                task = asyncio.create_task(drive(recipe, args, sample, params, evaluation=evaluation))
                running[task] = place
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
