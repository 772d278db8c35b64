"""Rollouts arranged for a page: each agent's run, its turns with what they called, shaded tokens."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from slime_search.errors import DataError
from slime_search.records.rollout import Call, Rollout, Run, Segment

SHADES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Shade 0 is a probability of at least 0.9, shade 5 one below 0.1."""

TOKENS_SHOWN = 1_500
"""A longer segment is cut on the page, with a note, unless the page says otherwise."""

STAGES = ("before", "after")


@dataclass(frozen=True)
class Turn:
    """One segment of a run. ``calls`` are those that a segment of the world answers."""

    segment: Segment
    number: int
    """Counts the model's turns from 1; a segment of the world has the number of the turn that it follows."""
    start: int
    """Position of the first token in the run."""
    calls: tuple[Call, ...] = ()
    limit: int = TOKENS_SHOWN

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """(CSS classes, text) of each token that is shown."""
        log_probs = self.segment.log_probs or [None] * len(self.segment.tokens)
        pairs = zip(self.segment.tokens, log_probs, strict=True)
        return [(_classes(text, log_prob), text) for text, log_prob in list(pairs)[: self.limit]]

    @property
    def hidden(self) -> int:
        return max(0, len(self.segment.tokens) - self.limit)

    @property
    def log_probs(self) -> str:
        """The log-probabilities of the shown tokens as JavaScript reads them, between blanks."""
        values = (self.segment.log_probs or ())[: self.limit]
        return " ".join("-Infinity" if value == -math.inf else f"{value:.3g}" for value in values)

    @property
    def token_ids(self) -> str:
        return " ".join(map(str, (self.segment.token_ids or ())[: self.limit]))


@dataclass(frozen=True)
class RunView:
    """One agent's context. ``name`` tells it from the rollout's others; one that is alone without a role has none."""

    record: Run
    name: str
    turns: tuple[Turn, ...]
    unanswered: tuple[Call, ...]
    """Calls whose result never entered the context."""

    @cached_property
    def length(self) -> int:
        return sum(len(turn.segment.tokens) for turn in self.turns)

    def count(self, owner: str) -> int:
        """How many tokens ``owner`` wrote."""
        return sum(len(turn.segment.tokens) for turn in self.turns if turn.segment.owner == owner)


@dataclass(frozen=True)
class RolloutView:
    """``runs`` begin with the agent that answers; those that worked for it follow in the order of their tasks."""

    record: Rollout
    runs: tuple[RunView, ...]

    @property
    def length(self) -> int:
        return sum(run.length for run in self.runs)


@dataclass(frozen=True)
class QuestionView:
    number: int
    before: RolloutView
    after: RolloutView

    @property
    def change(self) -> str:
        return change(self.before.record.facts.right, self.after.record.facts.right)


def change(before: float | None, after: float | None) -> str:
    """Whether an answer ``improved``, got ``worse`` or stayed the ``same``. What is unknown counts as wrong."""
    difference = (after or 0) - (before or 0)
    return "improved" if difference > 0 else "worse" if difference < 0 else "same"


def questions(rollouts: Sequence[Rollout]) -> list[QuestionView]:
    """Pairs the stages of each question, in the order of the rollouts of stage ``before``.

    Raises:
        DataError: a question does not occur exactly once in each stage.
    """
    stages: dict[str, dict[str, Rollout]] = {stage: {} for stage in STAGES}
    for record in rollouts:
        if record.stage not in stages:
            raise DataError(f"rollouts: {record.id!r} is of stage {record.stage!r}, which is not {' or '.join(STAGES)}")
        if record.question in stages[record.stage]:
            raise DataError(f"rollouts: the question {record.question!r} occurs twice in stage {record.stage!r}")
        stages[record.stage][record.question] = record
    before, after = stages["before"], stages["after"]
    if alone := before.keys() ^ after.keys():
        raise DataError(f"rollouts: {len(alone)} questions occur in one stage only, such as {min(alone)!r}")
    return [QuestionView(i, view(before[q]), view(after[q])) for i, q in enumerate(before, start=1)]


def view(record: Rollout, *, tokens_shown: int = TOKENS_SHOWN) -> RolloutView:
    """Numbers the turns and gives each segment of the world the calls that it answers.

    Runs with roles are agents of their own, and the one that answers comes first. Runs without are the contexts of one
    agent whose engine made it begin anew, so their turns are counted on and their order stays.

    Args:
        tokens_shown: of each segment.
    """
    runs: list[RunView] = []
    names, answered = _names(record.runs), 0
    for run, name in zip(record.runs, names, strict=True):
        runs.append(_run_view(run, name, answered, tokens_shown))
        answered = answered + sum(s.owner == "world" for s in run.segments) if run.role is None else 0
    if runs[-1].record.role is not None:
        runs = [runs[-1], *runs[:-1]]
    return RolloutView(record, tuple(runs))


def _names(runs: Sequence[Run]) -> list[str]:
    if len(runs) == 1:
        return [runs[0].role or ""]
    roles = [run.role or "context" for run in runs]
    # From 0, as calls and errors number executors.
    return [
        role if roles.count(role) == 1 else f"{role} {roles[:index].count(role)}" for index, role in enumerate(roles)
    ]


def _run_view(run: Run, name: str, before: int, limit: int) -> RunView:
    """``before`` turns were answered in the contexts before this one."""
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in run.calls:
        calls[call.turn - before].append(call)
    turns: list[Turn] = []
    spoken, answered, start, last = 0, 0, 0, ""
    for segment in run.segments:
        answers: list[Call] = []
        if segment.owner == "model":
            # A turn that was aborted and resumed, or is trained in parts, is one turn of several segments.
            spoken += last != "model"
        elif segment.owner == "world":
            # A correction answers no call, and takes its turn all the same.
            answers = calls.pop(answered, [])
            answered += 1
        last = segment.owner
        turns.append(Turn(segment, spoken, start, tuple(answers), limit))
        start += len(segment.tokens)
    unanswered = tuple(call for turn in sorted(calls) for call in calls[turn])
    return RunView(run, name, tuple(turns), unanswered)


def _classes(text: str, log_prob: float | None) -> str:
    shade = "" if log_prob is None else f"p{sum(math.exp(min(log_prob, 0)) < limit for limit in SHADES)}"
    return f"{shade} nl".strip() if text.isspace() and "\n" in text else shade
