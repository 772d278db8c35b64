"""Drives a recipe's two hooks as slime's rollout does: generate, then reward, many samples at once."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


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
