"""Rolls questions out, each attempt with a seed of its own."""

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from slime_search.evaluation.question_sets import Sets
from slime_search.evaluation.scoring import complete_score
from slime_search.rollouts.driving import Recipe, Seeded, drive_all
from slime_search.rollouts.from_samples import rollout_record
from slime_search.rollouts.questions import Question
from slime_search.rollouts.record import Rollout
from slime_search.rollouts.target import Target
from slime_search.service import close_sessions


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
        recipe = Seeded(recipe, lambda sample: _seed_of(sample.session_id, seed))
    codec = target.codec
    driven = drive_all(recipe, target.args, _samples(target, attempts), params, concurrency=concurrency)
    try:
        async with aclosing(driven) as rollouts:  # type: ignore[type-var]
            async for place, finished in rollouts:
                attempt = attempts[place]
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
    for place, attempt in enumerate(attempts):
        sample = target.sample(attempt.question)
        sample.index = place
        sample.session_id = attempt.id
        yield sample


def _seed_of(attempt_id: str, seed: int) -> int:
    """Depends on nothing but question and number; positive in the 32 bits that some engines keep it in."""
    digest = hashlib.sha256(f"{seed}/{attempt_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
