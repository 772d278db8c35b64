"""The numbers of one evaluation: by data set, and on average over the data sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slime_search.evaluation.bootstrap import DRAWS, LEVEL, Array, Interval, average_intervals, drawn_means, intervals
from slime_search.evaluation.outcome import METRICS, Outcome

AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class SetSummary:
    """One data set, or the average. ``questions`` have a rollout that did not fail; ``failed`` counts rollouts.

    ``metrics`` is empty where every rollout failed. Latencies are seconds a question.
    """

    questions: int
    rollouts: int
    failed: int
    services: Mapping[str, int]
    """Rollouts that each service failed."""
    metrics: Mapping[str, Interval]
    latency_p50_s: float | None
    latency_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """``average`` is None where a data set has no question that was answered."""

    sets: Mapping[str, SetSummary]
    average: SetSummary | None

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.sets.values())

    @property
    def services(self) -> Counter[str]:
        return sum((Counter(one.services) for one in self.sets.values()), Counter())

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; a mean stands with its interval's ends."""
        return {
            "interval": f"{LEVEL:.0%} percentile bootstrap, {DRAWS:,} draws of questions",
            "data_sets": {name: _as_json(one) for name, one in self.sets.items()},
            AVERAGE: None if self.average is None else _as_json(self.average),
        }


def by_set(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Sorted, so that nothing depends on the order in which rollouts finished."""
    sets: dict[str, list[Outcome]] = defaultdict(list)
    for one in sorted(outcomes, key=lambda one: (one.source, one.id)):
        sets[one.source].append(one)
    return sets


def by_question(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """The scored samples of each question."""
    questions: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        if not one.failed:
            questions[one.question_id].append(one)
    return questions


def question_means(questions: Mapping[str, Sequence[Outcome]]) -> Array:
    """(questions, METRICS): the mean over each question's samples."""
    return np.array([np.mean([one.values for one in samples], axis=0) for samples in questions.values()])


def summarize(outcomes: Iterable[Outcome], names: Sequence[str], *, seed: int) -> Summary:
    """The summary of the data sets ``names``, in that order. ``seed`` is of the bootstrap's draws."""
    sets = by_set(outcomes)
    means, draws, summaries = [], [], {}
    for name in names:
        questions = by_question(sets[name])
        values = question_means(questions)
        metrics = {}
        if questions:
            means.append(values)
            draws.append(drawn_means(values, seed=seed, name=name))
            metrics = dict(zip(METRICS, intervals(means[-1], draws[-1]), strict=True))
        summaries[name] = _of_set(sets[name], len(questions), metrics)
    whole = len(means) == len(names)
    return Summary(summaries, _average(list(summaries.values()), average_intervals(means, draws)) if whole else None)


def _of_set(outcomes: Sequence[Outcome], questions: int, metrics: Mapping[str, Interval]) -> SetSummary:
    latencies = [one.latency_s for one in outcomes if not one.failed]
    p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (None, None)
    services = Counter(one.service for one in outcomes if one.service is not None)
    return SetSummary(
        questions,
        len(outcomes),
        sum(one.failed for one in outcomes),
        services,
        metrics,
        None if p50 is None else float(p50),
        None if p95 is None else float(p95),
    )


def _average(sets: Sequence[SetSummary], means: Sequence[Interval]) -> SetSummary:
    """Counts are sums, everything else is the mean over the data sets."""
    return SetSummary(
        questions=sum(one.questions for one in sets),
        rollouts=sum(one.rollouts for one in sets),
        failed=sum(one.failed for one in sets),
        services=sum((Counter(one.services) for one in sets), Counter()),
        metrics=dict(zip(METRICS, means, strict=True)),
        latency_p50_s=float(np.mean([one.latency_p50_s for one in sets if one.latency_p50_s is not None])),
        latency_p95_s=float(np.mean([one.latency_p95_s for one in sets if one.latency_p95_s is not None])),
    )


def _as_json(one: SetSummary) -> dict[str, Any]:
    return {
        "questions": one.questions,
        "rollouts": one.rollouts,
        "failed": one.failed,
        "failed_by_service": dict(one.services),
        **{name: interval._asdict() for name, interval in one.metrics.items()},
        "latency_p50_s": one.latency_p50_s,
        "latency_p95_s": one.latency_p95_s,
    }
