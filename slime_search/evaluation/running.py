"""Rolls questions out, each attempt with a seed of its own."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from slime_search.data.questions import Question
from slime_search.evaluation.questions import Sets, digests
from slime_search.evaluation.scores import complete_score
from slime_search.evaluation.store import Store, Writing, settings_of
from slime_search.evaluation.summary import Summary, summarize
from slime_search.evaluation.tables import markdown_table
from slime_search.evaluation.target import Target
from slime_search.hooks.driving import Recipe, Seeded, drive_all, sampling_params
from slime_search.hooks.facts import RolloutFacts
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import Rollout
from slime_search.transport.client import close_sessions


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a question; ``number`` counts the question's from 0."""

    question: Question
    number: int

    @property
    def id(self) -> str:
        return f"{self.question.id}/{self.number}"


def attempts_at(sets: Sets, samples: int) -> list[Attempt]:
    """``samples`` attempts at each question."""
    return [
        Attempt(question, number) for questions in sets.values() for question in questions for number in range(samples)
    ]


async def roll_out(
    target: Target, attempts: Sequence[Attempt], params: Mapping[str, Any], *, concurrency: int, seed: int | None
) -> AsyncGenerator[Rollout]:
    """The attempts' rollouts as they finish, all agents' contexts included.

    Args:
        params: sampling parameters, as slime's rollout sends them.
        seed: makes the engine's draws repeatable where the engine honours seeds. None sends none.

    Raises:
        SlimeSearchError: what ends all of it: too many failures, or an engine that speaks another protocol.
    """
    recipe: Recipe = target.recipe
    if seed is not None:
        recipe = Seeded(recipe, lambda sample: _seed_of(sample.session_id or "", seed))
    codec = target.codec
    driven = drive_all(recipe, target.args, _samples(target, attempts), params, concurrency=concurrency)
    try:
        async with aclosing(driven) as rollouts:  # type: ignore[type-var]
            async for position, finished in rollouts:
                attempt = attempts[position]
                complete_score(finished.samples)
                yield rollout_record(
                    finished.samples,
                    codec,
                    id=attempt.id,
                    group=attempt.question.id,
                    recipe=target.name,
                    wall_s=finished.wall_s,
                )
    finally:
        await close_sessions()


def _samples(target: Target, attempts: Sequence[Attempt]) -> Iterator[Any]:
    for position, attempt in enumerate(attempts):
        sample = target.sample(attempt.question)
        sample.index = position
        sample.session_id = attempt.id
        yield sample


def _seed_of(attempt_id: str, seed: int) -> int:
    """Depends on nothing but question and number; positive in the 32 bits that some engines keep it in."""
    digest = hashlib.sha256(f"{seed}/{attempt_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True)
class Plan:
    """What is asked, and how. ``samples`` are attempts at each question, ``turn_tokens`` a turn's."""

    sets: Sets
    samples: int
    temperature: float
    turn_tokens: int
    seed: int
    concurrency: int

    @property
    def sampling_seed(self) -> int | None:
        """None where the likeliest token is taken, for which nothing is drawn."""
        return self.seed if self.temperature > 0 else None


def evaluate(
    target: Target,
    plan: Plan,
    store: Store,
    console: Console,
    *,
    weights: Sequence[Path] = (),
    own_services: bool = False,
    fresh: bool = False,
) -> Summary:
    """Rolls out what is still to be done, and leaves ``summary.json`` and ``table.md``.

    Args:
        weights: folders of models that we serve ourselves.
        own_services: retriever and Searcher are ours, too.
        fresh: begin anew.

    Raises:
        ConfigError: the folder holds another evaluation.
        SlimeSearchError: too many rollouts failed, or an engine can't be used. What was finished is kept.
    """
    settings = settings_of(
        target,
        weights=weights,
        own_services=own_services,
        questions=digests(plan.sets),
        samples=plan.samples,
        temperature=plan.temperature,
        turn_tokens=plan.turn_tokens,
        seed=plan.seed,
    )
    attempts = attempts_at(plan.sets, plan.samples)
    with store.writing(settings, fresh=fresh) as writing:
        done = {facts.id for facts in writing.finished}
        if done:
            console.print(f"{len(done):,} of {len(attempts):,} rollouts are in {store.folder} already.", soft_wrap=True)
        missing = [attempt for attempt in attempts if attempt.id not in done]
        with _progress(console) as progress:
            bar = _Bar(progress, writing, len(attempts))
            asyncio.run(_run(target, missing, plan, writing, bar.show))
        summary = summarize(writing.finished, list(plan.sets), seed=plan.seed)
        title = f"`{target.name}`, {_decoding(plan)}"
        store.finish({"recipe": target.name, **summary.as_json()}, markdown_table(summary, title))
    return summary


async def _run(
    target: Target, attempts: Sequence[Attempt], plan: Plan, writing: Writing, on_done: Callable[[RolloutFacts], None]
) -> None:
    params = sampling_params(temperature=plan.temperature, max_new_tokens=plan.turn_tokens)
    rollouts = roll_out(target, attempts, params, concurrency=plan.concurrency, seed=plan.sampling_seed)
    async with aclosing(rollouts):
        async for rollout in rollouts:
            on_done(writing.add(rollout))


class _Bar:
    """The progress so far, with the exact match of the rollouts that are there."""

    def __init__(self, progress: Progress, writing: Writing, total: int) -> None:
        scored = [facts.score["em"] for facts in writing.finished]
        self._progress = progress
        self._right, self._scored, self._failed = sum(scored), len(scored), 0
        self._task = progress.add_task("Evaluating", total=total, completed=len(scored), note=self._note())

    def show(self, facts: RolloutFacts) -> None:
        if facts.is_scored:
            self._right += facts.score["em"]
            self._scored += 1
        else:
            self._failed += 1
        self._progress.update(self._task, advance=1, note=self._note())

    def _note(self) -> str:
        em = f"EM {100 * self._right / self._scored:.1f}" if self._scored else ""
        return f"{em} [red]{self._failed} failed[/red]" if self._failed else em


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _decoding(plan: Plan) -> str:
    way = "greedy" if plan.temperature == 0 else f"T = {plan.temperature:g}"
    return f"{way}, {plan.samples} samples a question" if plan.samples > 1 else way
