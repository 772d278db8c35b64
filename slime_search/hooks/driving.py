"""Drives a recipe's two hooks as slime's rollout does: generate, then reward, many samples at once."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from slime_search.hooks.contract import Args, Sample


class Recipe(Protocol):
    """The two hooks that every recipe has."""

    @property
    def generate(self) -> Callable[..., Awaitable[Any]]: ...
    @property
    def reward_func(self) -> Callable[..., Awaitable[Any]]: ...


def takes_evaluation(generate: Callable[..., Any]) -> bool:
    """Whether a generate function tells an evaluation from a rollout, found out as slime finds it out."""
    return "evaluation" in inspect.signature(generate).parameters


class Seeded:
    """A recipe whose every rollout is sampled with the seed that ``seed_of`` its sample says."""

    def __init__(self, recipe: Recipe, seed_of: Callable[[Sample], int]) -> None:
        self._recipe = recipe
        self._seed_of = seed_of
        self.reward_func = recipe.reward_func

    async def generate(self, args: Args, sample: Sample, params: Mapping[str, Any], evaluation: bool = False) -> Any:
        params = {**params, "sampling_seed": self._seed_of(sample)}
        # A generate function without that argument is called without it.
        options = {"evaluation": evaluation} if takes_evaluation(self._recipe.generate) else {}
        return await self._recipe.generate(args, sample, params, **options)


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished and rewarded rollout: its samples, the one that answers last, and its wall time in seconds."""

    samples: list[Sample]
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
    recipe: Recipe, args: Args, sample: Sample, params: Mapping[str, Any], *, evaluation: bool = False
) -> Finished:
    """One rollout from its prompt to its reward, which a sample without a label does not get.

    With ``evaluation`` a recipe of several agents returns the answering one's sample alone.

    Raises:
        SlimeSearchError: what the recipe's hooks raise.
    """
    options = {"evaluation": evaluation} if takes_evaluation(recipe.generate) else {}
    start = time.perf_counter()
    made = await recipe.generate(args, sample, params, **options)
    samples: list[Sample] = made if isinstance(made, list) else [made]
    if sample.label is not None and any(part.reward is None for part in samples):
        # As slime does it: one sample is rewarded by itself, and a list as a list.
        scored = await recipe.reward_func(args, made)
        for part, reward in zip(samples, scored if isinstance(made, list) else [scored], strict=True):
            part.reward = reward
    return Finished(samples, time.perf_counter() - start)


async def drive_all(
    recipe: Recipe,
    args: Args,
    samples: Iterable[Sample],
    params: Mapping[str, Any],
    *,
    concurrency: int,
    evaluation: bool = False,
) -> AsyncIterator[tuple[int, Finished]]:
    """Each sample's index in ``samples`` and its rollout once it is finished, ``concurrency`` of them at a time.

    ``samples`` is read as it goes, so it may be long. When a rollout raises, or the caller stops listening, the others
    are cancelled.
    """
    waiting = enumerate(samples)
    running: dict[asyncio.Task[Finished], int] = {}
    try:
        while True:
            while len(running) < concurrency and (following := next(waiting, None)) is not None:
                index, sample = following
                task = asyncio.create_task(drive(recipe, args, sample, params, evaluation=evaluation))
                running[task] = index
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
