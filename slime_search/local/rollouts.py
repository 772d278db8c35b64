"""Drives a recipe's hooks the way slime's rollout does: generate, then reward, many samples at once."""

import asyncio
import inspect
import json
import uuid
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from slime_search.local.sample import sample_class
from slime_search.service import close_sessions


class Recipe(Protocol):
    """The two hooks that every recipe has."""

    @property
    def generate(self) -> Callable[..., Awaitable[Any]]: ...
    @property
    def reward_func(self) -> Callable[..., Awaitable[Any]]: ...


def load_prompts(path: Path, render: Callable[[Sequence[Mapping[str, Any]]], str] | None) -> list[Any]:
    """Samples of a Search-R1 style parquet file, their prompts rendered as slime's ``--apply-chat-template`` does.

    Without ``render`` they stay messages.

    The row's question and hops stay in ``metadata``.
    """
    sample_type = sample_class()
    samples = []
    for row in pq.read_table(path).to_pylist():
        metadata = {"question": row["question"], "hops": row["extra_info"]["hops"]}
        prompt = render(row["prompt"]) if render else row["prompt"]
        samples.append(sample_type(prompt=prompt, label=row["reward_model"], metadata=metadata))
    return samples


class Rollouts:
    """Runs trajectories on one event loop that lives as long as this object, so that connections are kept.

    Args:
        recipe: the hooks.
        args: what slime would pass as ``args``.
        max_new_tokens: tokens a turn.
    """

    def __init__(self, recipe: Recipe, args: Namespace, *, max_new_tokens: int) -> None:
        self._recipe = recipe
        self._args = args
        self._max_new_tokens = max_new_tokens
        self._runner = asyncio.Runner()

    def collect(
        self,
        prompts: Sequence[Any],
        *,
        n: int,
        temperature: float,
        evaluation: bool = False,
        on_done: Callable[[], None] = lambda: None,
    ) -> list[Any]:
        """The samples of ``n`` finished and rewarded rollouts a prompt, in the order of the prompts.

        ``group_index`` counts the prompts and ``index`` the rollouts, each of which may be several samples.
        """
        samples = [
            _copy(prompt, group_index=group, index=group * n + member)
            for group, prompt in enumerate(prompts)
            for member in range(n)
        ]
        sampling_params = {
            "temperature": temperature,
            "top_p": 1.0,
            "max_new_tokens": self._max_new_tokens,
            "skip_special_tokens": False,
            "no_stop_trim": True,
            "spaces_between_special_tokens": False,
        }
        # As slime does it, for recipes that tell an evaluation from a rollout.
        takes = "evaluation" in inspect.signature(self._recipe.generate).parameters
        options = {"evaluation": evaluation} if takes else {}
        return self._runner.run(self._gather(samples, sampling_params, options, on_done))

    async def _gather(
        self,
        samples: Sequence[Any],
        sampling_params: Mapping[str, Any],
        options: Mapping[str, bool],
        on_done: Callable[[], None],
    ) -> list[Any]:
        in_flight = asyncio.Semaphore(self._args.sglang_server_concurrency)

        async def finish(sample: Any) -> list[Any]:
            async with in_flight:
                made = await self._recipe.generate(self._args, sample, sampling_params, **options)
            rollout = made if isinstance(made, list) else [made]
            if any(one.reward is None for one in rollout):
                rewards = await self._recipe.reward_func(self._args, rollout)
                for one, reward in zip(rollout, rewards, strict=True):
                    one.reward = reward
            on_done()
            return rollout

        return [sample for rollout in await asyncio.gather(*map(finish, samples)) for sample in rollout]

    def close(self) -> None:
        self._runner.run(close_sessions())
        self._runner.close()


def _copy(prompt: Any, *, group_index: int, index: int) -> Any:
    # The label and metadata of a prompt are plain JSON; a copy by JSON is a deep one.
    return type(prompt)(
        prompt=prompt.prompt,
        label=prompt.label,
        metadata=json.loads(json.dumps(prompt.metadata)),
        group_index=group_index,
        index=index,
        session_id=str(uuid.uuid4()),
    )
