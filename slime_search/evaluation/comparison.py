"""Two evaluations, question by question."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slime_search.errors import DataError
from slime_search.evaluation.bootstrap import DRAWS, LEVEL, Array, Interval, average_intervals, drawn_means, intervals
from slime_search.evaluation.delegation import Delegation, delegation_of
from slime_search.evaluation.outcome import METRICS, Outcome
from slime_search.evaluation.summary import AVERAGE, by_question

SEED = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and its scored samples in both runs."""

    a: Sequence[Outcome]
    b: Sequence[Outcome]

    @property
    def first(self) -> Outcome:
        return self.a[0]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one data set, or on average over them: both means, and the mean of B − A with its interval, by metric."""

    questions: int
    a: Mapping[str, float]
    b: Mapping[str, float]
    change: Mapping[str, Interval]

    def as_json(self) -> dict[str, Any]:
        metrics = {
            name: {"a": self.a[name], "b": self.b[name], "difference": self.change[name]._asdict()} for name in METRICS
        }
        return {"questions": self.questions, **metrics}


@dataclass(frozen=True, slots=True)
class Comparison:
    """``only_a`` and ``only_b`` count scored questions that the other run has not. ``lost`` were right in A and are
    wrong in B, ``won`` the other way round."""

    sets: Mapping[str, Difference]
    average: Difference
    only_a: int
    only_b: int
    lost: Sequence[Pair]
    won: Sequence[Pair]
    delegation: tuple[Delegation | None, Delegation | None]
    """When each run's agent called on another one, over the common questions; None where it has no other."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "interval": f"{LEVEL:.0%} paired percentile bootstrap, {DRAWS:,} draws of questions",
            "data_sets": {name: one.as_json() for name, one in self.sets.items()},
            AVERAGE: self.average.as_json(),
            "only_in_a": self.only_a,
            "only_in_b": self.only_b,
            "right_in_a_only": [pair.first.question_id for pair in self.lost],
            "right_in_b_only": [pair.first.question_id for pair in self.won],
            "delegation": [None if one is None else one.as_json() for one in self.delegation],
        }


def compare(a: Iterable[Outcome], b: Iterable[Outcome]) -> Comparison:
    """Compares what both runs answered.

    A question is the same where its place in its data set, its words and its gold answers are. With several samples it
    counts as right where at least half of them are.

    Raises:
        DataError: they have no question in common.
    """
    of_a, of_b = _questions(a), _questions(b)
    common = [key for key in sorted(of_a) if key in of_b]
    if not common:
        raise DataError(
            f"no question in common: A has {len(of_a):,} scored questions of {_names(of_a)}, B has {len(of_b):,} of "
            f"{_names(of_b)}. Evaluate both on the same --test-set, --limit and --seed."
        )
    pairs = [Pair(of_a[key], of_b[key]) for key in common]
    by_set: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_set.setdefault(pair.first.source, []).append(pair)
    sets, average = _differences(by_set)
    delegation = (
        delegation_of([(pair.a, pair.b) for pair in pairs]),
        delegation_of([(pair.b, pair.a) for pair in pairs]),
    )
    lost = [pair for pair in pairs if is_right(pair.a) and not is_right(pair.b)]
    won = [pair for pair in pairs if is_right(pair.b) and not is_right(pair.a)]
    return Comparison(sets, average, len(of_a) - len(pairs), len(of_b) - len(pairs), lost, won, delegation)


def is_right(samples: Sequence[Outcome]) -> bool:
    """Whether at least half of a question's samples match exactly."""
    return 2 * sum(one.em for one in samples) >= len(samples)


_Key = tuple[str, str, str, tuple[str, ...]]


def _questions(outcomes: Iterable[Outcome]) -> dict[_Key, list[Outcome]]:
    """The scored samples of each question, by all that makes it the same question."""
    found = by_question(sorted(outcomes, key=lambda one: one.id)).values()
    return {(one[0].source, one[0].question_id, one[0].question, one[0].gold_answers): one for one in found}


def _names(questions: Iterable[_Key]) -> str:
    return ", ".join(Counter(key[0] for key in questions)) or "no data set"


def _differences(by_set: Mapping[str, Sequence[Pair]]) -> tuple[dict[str, Difference], Difference]:
    sets, changes, draws = {}, [], []
    for name, pairs in by_set.items():
        a, b = _means([pair.a for pair in pairs]), _means([pair.b for pair in pairs])
        changes.append(b - a)
        draws.append(drawn_means(b - a, seed=SEED, name=name))
        sets[name] = _difference(len(pairs), a.mean(axis=0), b.mean(axis=0), intervals(changes[-1], draws[-1]))
    of_a = np.mean([[one.a[metric] for metric in METRICS] for one in sets.values()], axis=0)
    of_b = np.mean([[one.b[metric] for metric in METRICS] for one in sets.values()], axis=0)
    questions = sum(one.questions for one in sets.values())
    return sets, _difference(questions, of_a, of_b, average_intervals(changes, draws))


def _means(questions: Sequence[Sequence[Outcome]]) -> Array:
    """(questions, METRICS): the mean over each question's samples."""
    return np.array([np.mean([one.values for one in samples], axis=0) for samples in questions])


def _difference(questions: int, a: Array, b: Array, change: Sequence[Interval]) -> Difference:
    return Difference(
        questions,
        dict(zip(METRICS, map(float, a), strict=True)),
        dict(zip(METRICS, map(float, b), strict=True)),
        dict(zip(METRICS, change, strict=True)),
    )
