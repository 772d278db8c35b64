"""The quickstart's rollouts: its prompts, and a loop that lives as long as the run."""

import asyncio
import json
import statistics
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from slime_search.core.trajectory import Ending
from slime_search.hooks.contract import sample_class
from slime_search.hooks.driving import Recipe, drive_all, sampling_params
from slime_search.hooks.facts import facts_of
from slime_search.hooks.samples import rollouts_of
from slime_search.transport.client import close_sessions


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """Means over rollouts: ``em`` … ``failed`` are shares, the rest counts a rollout.

    ``em_two_hops`` is of the questions that take two facts, ``searches`` are the calls of the answering agent.
    ``truncated`` ended by a token budget, ``out_of_turns`` with a call after the last one allowed, as in
    ``hooks/metrics.py``.
    """

    n: int
    em: float
    em_two_hops: float
    reward: float
    answered: float
    well_formed: float
    retrieval_hit: float
    truncated: float
    out_of_turns: float
    failed: float
    searches: float
    response_tokens: float


def rollout_stats(samples: Sequence[Any]) -> RolloutStats:
    """Summarises finished rollouts; those that failed count in ``failed`` and nowhere else."""
    rollouts = [(facts_of(rollout), rollout[-1]) for rollout in rollouts_of(samples)]
    live = [(facts, sample) for facts, sample in rollouts if facts.is_scored]

    def mean(values: Iterable[float]) -> float:
        known = list(values)
        return round(statistics.fmean(known), 4) if known else 0.0

    return RolloutStats(
        n=len(live),
        em=mean(facts.score["em"] for facts, _ in live),
        em_two_hops=mean(facts.score["em"] for facts, sample in live if sample.metadata["hops"] == 2),
        reward=mean(sample.reward for _, sample in live),
        answered=mean(facts.score["answered"] for facts, _ in live),
        well_formed=mean(facts.score["well_formed"] for facts, _ in live),
        retrieval_hit=mean(facts.score["retrieval_hit"] for facts, _ in live),
        truncated=mean(facts.ending == Ending.TRUNCATED for facts, _ in live),
        out_of_turns=mean(facts.ending == Ending.OUT_OF_TURNS for facts, _ in live),
        failed=mean(not facts.is_scored for facts, _ in rollouts),
        searches=mean(facts.own_calls for facts, _ in live),
        response_tokens=mean(facts.model_tokens for facts, _ in live),
    )


def load_prompts(path: Path, render: Callable[[Sequence[Mapping[str, Any]]], str] | None) -> list[Any]:
    """Samples of a parquet file with Search-R1's columns, prompts rendered as by slime's ``--apply-chat-template``.

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
        params = sampling_params(temperature=temperature, max_new_tokens=self._max_new_tokens)
        return self._runner.run(self._gather(samples, params, evaluation, on_done))

    async def _gather(
        self, samples: Sequence[Any], params: Mapping[str, Any], evaluation: bool, on_done: Callable[[], None]
    ) -> list[Any]:
        rollouts: dict[int, list[Any]] = {}
        concurrency = self._args.sglang_server_concurrency
        driven = drive_all(self._recipe, self._args, samples, params, concurrency=concurrency, evaluation=evaluation)
        async for index, finished in driven:
            rollouts[index] = finished.samples
            on_done()
        return [sample for index in range(len(samples)) for sample in rollouts[index]]

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
