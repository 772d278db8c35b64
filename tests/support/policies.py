"""Policies for the scripted engine, written turn by turn."""

import re
from collections.abc import Callable

from tests.support.scripted_engine import Policy

BOUNDARIES = (
    "<|im_start|>assistant\n",
    "</information>\n\n",
    "</documents>\n\n",
    "</result>\n\n",
    "Let me try again.\n",
)
"""What the world writes last before the model speaks."""


def by_turn(turn: Callable[[str], str]) -> Policy:
    """A policy that asks ``turn`` for the whole next turn, and goes on in the middle of one that was interrupted."""

    def policy(context: str) -> str:
        start = max(context.rfind(mark) + len(mark) for mark in BOUNDARIES if mark in context)
        whole, begun = turn(context[:start]), context[start:]
        assert whole.startswith(begun), f"the context holds {begun!r}, the policy wanted {whole!r}"
        return whole[len(begun) :]

    return policy


def turns_of(*turns: str) -> Policy:
    """Says ``turns`` in order, and the last one ever after."""
    return by_turn(lambda context: turns[min(spoken_turns(context), len(turns) - 1)])


def in_sequence(*turns: str) -> Policy:
    """Like ``turns_of``, but keeps count by itself, so that no text in the context can confuse it."""
    upcoming = iter(turns)
    start, whole = "", next(upcoming)

    def policy(context: str) -> str:
        nonlocal start, whole
        if not start:
            start = context
        if not whole.startswith(context[len(start) :]):
            start, whole = context, next(upcoming, turns[-1])
        return whole[len(context) - len(start) :]

    return policy


def spoken_turns(context: str) -> int:
    """How often the world has spoken since the prompt."""
    response = context.rpartition(BOUNDARIES[0])[2]
    return sum(response.count(mark) for mark in BOUNDARIES[1:])


def question_number(context: str) -> int:
    """N of the first ``thing-N`` in the context."""
    found = re.search(r"thing-(\d+)", context)
    assert found, f"no question in {context[:200]!r}"
    return int(found.group(1))


def think_search(query: str, thought: str = "I should look this up.") -> str:
    return f"<think> {thought} </think>\n<search> {query} </search>"


def think_answer(answer: str, thought: str = "The passage says it.") -> str:
    return f"<think> {thought} </think>\n<answer> {answer} </answer>"
