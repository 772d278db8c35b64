"""Trajectory records arranged for the page: questions with both stages, turns with their searches, shaded tokens."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from slime_search.errors import DataError
from slime_search.report.records import Search, Segment, Trajectory

SHADES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Shade 0 is a probability of at least 0.9, shade 5 one below 0.1."""

TOKENS_SHOWN = 1_500
"""A longer segment is cut on the page, with a note."""


@dataclass(frozen=True)
class Turn:
    """One segment of a trajectory. ``searches`` are those that a segment of the world answers."""

    segment: Segment
    number: int
    """Counts the model's turns from 1; a segment of the world has the number of the turn that it follows."""
    start: int
    """Position of the first token in the trajectory."""
    searches: tuple[Search, ...] = ()

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """(CSS classes, text) of each token that is shown."""
        log_probs = self.segment.log_probs or [None] * len(self.segment.tokens)
        pairs = zip(self.segment.tokens, log_probs, strict=True)
        return [(_classes(text, log_prob), text) for text, log_prob in list(pairs)[:TOKENS_SHOWN]]

    @property
    def hidden(self) -> int:
        return max(0, len(self.segment.tokens) - TOKENS_SHOWN)

    @property
    def log_probs(self) -> str:
        """The log-probabilities of the shown tokens as JavaScript reads them, between blanks."""
        values = (self.segment.log_probs or ())[:TOKENS_SHOWN]
        return " ".join("-Infinity" if value == -math.inf else f"{value:.3g}" for value in values)


@dataclass(frozen=True)
class TrajectoryView:
    record: Trajectory
    turns: tuple[Turn, ...]
    unanswered: tuple[Search, ...]
    """Searches whose result never entered the context."""

    @cached_property
    def length(self) -> int:
        return sum(len(turn.segment.tokens) for turn in self.turns)

    def count(self, owner: str) -> int:
        """How many tokens ``owner`` wrote."""
        return sum(len(turn.segment.tokens) for turn in self.turns if turn.segment.owner == owner)


@dataclass(frozen=True)
class QuestionView:
    number: int
    before: TrajectoryView
    after: TrajectoryView

    @property
    def change(self) -> str:
        """Whether training made the answer ``improved``, ``worse`` or left it the ``same``, by exact match."""
        before, after = self.before.record.em, self.after.record.em
        return "improved" if after > before else "worse" if after < before else "same"


def questions(trajectories: Sequence[Trajectory]) -> list[QuestionView]:
    """Pairs the stages of each question, in the order of the trajectories of stage ``before``.

    Raises:
        DataError: a question does not occur exactly once in each stage.
    """
    stages: dict[str, dict[str, Trajectory]] = {"before": {}, "after": {}}
    for record in trajectories:
        if record.question in stages[record.stage]:
            raise DataError(f"trajectories: the question {record.question!r} occurs twice in stage {record.stage!r}")
        stages[record.stage][record.question] = record
    before, after = stages["before"], stages["after"]
    if alone := before.keys() ^ after.keys():
        raise DataError(f"trajectories: {len(alone)} questions occur in one stage only, such as {min(alone)!r}")
    return [QuestionView(i, view(before[q]), view(after[q])) for i, q in enumerate(before, start=1)]


def view(record: Trajectory) -> TrajectoryView:
    """Numbers the turns and gives each segment of the world the searches that it answers.

    The record does not link the two, so a search belongs to the first free segment of the world whose turn of the model
    holds the query.
    """
    turns: list[Turn] = []
    pending = list(record.searches)
    number, start, said = 0, 0, ""
    for segment in record.segments:
        answered: list[Search] = []
        if segment.owner == "model":
            number, said = number + 1, _letters(segment.text)
        elif segment.owner == "world":
            answered = _asked(pending, said)
            pending = pending[len(answered) :]
            said = "" if answered else said
        turns.append(Turn(segment, number, start, tuple(answered)))
        start += len(segment.tokens)
    return TrajectoryView(record, tuple(turns), tuple(pending))


def _asked(searches: Sequence[Search], said: str) -> list[Search]:
    """The first of ``searches`` whose queries stand in ``said``, one after the other."""
    asked: list[Search] = []
    for search in searches:
        query = _letters(search.query)
        # A query in another script leaves no letters to look for; the first one is taken on trust.
        if query not in said or (asked and not query):
            break
        asked.append(search)
        said = said[said.rfind(query) + len(query) :]
    return asked


def _letters(text: str) -> str:
    """What survives of a text in decoded token pieces, whatever the escaping, blanks and split characters."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _classes(text: str, log_prob: float | None) -> str:
    shade = "" if log_prob is None else f"p{sum(math.exp(min(log_prob, 0)) < limit for limit in SHADES)}"
    return f"{shade} nl".strip() if text.isspace() and "\n" in text else shade
