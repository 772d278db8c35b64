"""Two evaluations, question by question."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from slime_search.errors import DataError
from slime_search.evaluation.bootstrap import DRAWS, LEVEL, Array, Interval, average_intervals, drawn_means, intervals
from slime_search.evaluation.scores import METRICS
from slime_search.evaluation.summary import AVERAGE, by_question, question_means
from slime_search.evaluation.tables import NOTHING, TITLES, change, markdown, shown, table
from slime_search.hooks.facts import RolloutFacts

SEED = 0
_DELEGATION = ("delegated", "EM then", "the other's EM then", "EM else")


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and its scored samples in both runs."""

    a: Sequence[RolloutFacts]
    b: Sequence[RolloutFacts]

    @property
    def first(self) -> RolloutFacts:
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
class Delegation:
    """Shares of one run's rollouts. An exact match is None where there is no such rollout.

    An agent chooses when to delegate, so ``em_delegated`` and ``em_alone`` are of different questions. ``em_other`` is
    the other run's on the questions that this one delegated.
    """

    rollouts: int
    delegated: float
    em_delegated: float | None
    em_other: float | None
    em_alone: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def delegation_of(questions: Sequence[tuple[Sequence[RolloutFacts], Sequence[RolloutFacts]]]) -> Delegation | None:
    """Of a run whose scored samples of each question stand before the other run's. None for a recipe of one agent."""
    rollouts = [(sample, others) for samples, others in questions for sample in samples if sample.delegates]
    if not rollouts:
        return None
    delegated = [(sample, others) for sample, others in rollouts if sample.delegated]
    return Delegation(
        len(rollouts),
        len(delegated) / len(rollouts),
        _mean([sample.score["em"] for sample, _ in delegated]),
        _mean([statistics.fmean(other.score["em"] for other in others) for _, others in delegated]),
        _mean([sample.score["em"] for sample, _ in rollouts if not sample.delegated]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


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
            "data_sets": {name: difference.as_json() for name, difference in self.sets.items()},
            AVERAGE: self.average.as_json(),
            "only_in_a": self.only_a,
            "only_in_b": self.only_b,
            "right_in_a_only": [pair.first.group for pair in self.lost],
            "right_in_b_only": [pair.first.group for pair in self.won],
            "delegation": [run and run.as_json() for run in self.delegation],
        }


def compare(a: Iterable[RolloutFacts], b: Iterable[RolloutFacts]) -> Comparison:
    """Compares what both runs answered.

    A question is the same where its number in its data set, its words and its gold answers are. With several samples it
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


def is_right(samples: Sequence[RolloutFacts]) -> bool:
    """Whether at least half of a question's samples match exactly."""
    return 2 * sum(sample.score["em"] for sample in samples) >= len(samples)


_Key = tuple[str, str, str, tuple[str, ...]]


def _questions(rollouts: Iterable[RolloutFacts]) -> dict[_Key, list[RolloutFacts]]:
    """The scored samples of each question, by all that makes it the same question."""
    found = by_question(sorted(rollouts, key=lambda facts: facts.id)).values()
    return {
        (samples[0].source, samples[0].group, samples[0].question, samples[0].gold_answers): samples
        for samples in found
    }


def _names(questions: Iterable[_Key]) -> str:
    return ", ".join(Counter(key[0] for key in questions)) or "no data set"


def _differences(by_set: Mapping[str, Sequence[Pair]]) -> tuple[dict[str, Difference], Difference]:
    sets, changes, draws = {}, [], []
    for name, pairs in by_set.items():
        a, b = question_means([pair.a for pair in pairs]), question_means([pair.b for pair in pairs])
        changes.append(b - a)
        draws.append(drawn_means(b - a, seed=SEED, name=name))
        sets[name] = _difference(len(pairs), a.mean(axis=0), b.mean(axis=0), intervals(changes[-1], draws[-1]))
    of_a = np.mean([[difference.a[metric] for metric in METRICS] for difference in sets.values()], axis=0)
    of_b = np.mean([[difference.b[metric] for metric in METRICS] for difference in sets.values()], axis=0)
    questions = sum(difference.questions for difference in sets.values())
    return sets, _difference(questions, of_a, of_b, average_intervals(changes, draws))


def _difference(questions: int, a: Array, b: Array, change: Sequence[Interval]) -> Difference:
    return Difference(
        questions,
        dict(zip(METRICS, map(float, a), strict=True)),
        dict(zip(METRICS, map(float, b), strict=True)),
        dict(zip(METRICS, change, strict=True)),
    )


def terminal_comparison(comparison: Comparison, show: int) -> RenderableType:
    """Differences, flipped questions (``show`` of each kind with their answers), and delegation."""
    exact_match = table("EM", "questions", "A", "B", "B − A", "95 %")
    for name, difference in _rows(comparison):
        style = "bold" if name == AVERAGE else ""
        exact_match.add_row(name, f"{difference.questions:,}", *_cells(difference, "em"), style=style)
    others = table("on average", "A", "B", "B − A", "95 %")
    for metric in METRICS[1:]:
        others.add_row(TITLES[metric], *_cells(comparison.average, metric))
    parts: list[RenderableType] = [exact_match, "", others, "", Text(_common(comparison))]
    parts += _flips("Right in A, wrong in B", comparison.lost, show)
    parts += _flips("Wrong in A, right in B", comparison.won, show)
    if any(comparison.delegation):
        delegation = table("run", *_DELEGATION)
        for run, shares in zip("AB", comparison.delegation, strict=True):
            delegation.add_row(run, *_delegated(shares))
        parts += ["", delegation]
    return Group(*parts)


def markdown_comparison(comparison: Comparison, names: tuple[str, str]) -> str:
    """The same without the questions. ``names`` are those of the runs."""
    rows = [[name, f"{row.questions:,}", *_cells(row, "em")] for name, row in _rows(comparison)]
    others = [[TITLES[metric], *_cells(comparison.average, metric)] for metric in METRICS[1:]]
    parts = [
        f"A is `{names[0]}`, B is `{names[1]}`.\n",
        markdown(["EM", "questions", "A", "B", "B − A", "95 %"], rows),
        markdown(["on average", "A", "B", "B − A", "95 %"], others),
        f"{_common(comparison)} Right in A only: {len(comparison.lost):,}; right in B only: {len(comparison.won):,}. "
        "The intervals are of a paired bootstrap over questions.\n",
    ]
    if any(comparison.delegation):
        rows = [[run, *_delegated(shares)] for run, shares in zip("AB", comparison.delegation, strict=True)]
        parts.append(markdown(["run", *_DELEGATION], rows))
    return "\n".join(parts)


def _common(comparison: Comparison) -> str:
    common = comparison.average.questions
    return f"{common:,} questions in common; {comparison.only_a:,} only in A, {comparison.only_b:,} only in B."


def _flips(title: str, pairs: Sequence[Pair], show: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"{title}: {len(pairs):,}", style="bold")]
    for pair in pairs[:show]:
        gold = " / ".join(pair.first.gold_answers)
        parts.append(Text(f"  {pair.first.group}  {pair.first.question}"))
        parts.append(Text(f"    A {_answer(pair.a)}, B {_answer(pair.b)}, gold {gold}", style="dim"))
    if 0 < show < len(pairs):
        parts.append(Text(f"  … {len(pairs) - show:,} more; --show prints them", style="dim"))
    return parts


def _answer(samples: Sequence[RolloutFacts]) -> str:
    """That of the first sample that is right or wrong as the question is."""
    right = is_right(samples)
    answer = next(sample.answer for sample in samples if bool(sample.score["em"]) == right)
    return "no answer" if answer is None else repr(answer)


def _delegated(run: Delegation | None) -> list[str]:
    if run is None:
        return [NOTHING] * len(_DELEGATION)
    return [shown(run.delegated), shown(run.em_delegated), shown(run.em_other), shown(run.em_alone)]


def _cells(row: Difference, metric: str) -> list[str]:
    return [shown(row.a[metric], metric), shown(row.b[metric], metric), *change(row.change[metric], metric)]


def _rows(comparison: Comparison) -> list[tuple[str, Difference]]:
    """One set's average is the set itself."""
    sets = list(comparison.sets.items())
    return [*sets, *([(AVERAGE, comparison.average)] if len(sets) > 1 else [])]
