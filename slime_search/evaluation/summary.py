"""The numbers of one evaluation: by data set, and on average over the data sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slime_search.evaluation.bootstrap import DRAWS, LEVEL, Array, Interval, average_intervals, drawn_means, intervals
from slime_search.evaluation.scores import METRICS, values_of
from slime_search.hooks.facts import RolloutFacts

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

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; a mean stands with its interval's ends."""
        return {
            "questions": self.questions,
            "rollouts": self.rollouts,
            "failed": self.failed,
            "failed_by_service": dict(self.services),
            **{name: interval._asdict() for name, interval in self.metrics.items()},
            "latency_p50_s": self.latency_p50_s,
            "latency_p95_s": self.latency_p95_s,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """``average`` is None where a data set has no question that was answered."""

    sets: Mapping[str, SetSummary]
    average: SetSummary | None

    @property
    def failed(self) -> int:
        return sum(summary.failed for summary in self.sets.values())

    @property
    def services(self) -> Counter[str]:
        return sum((Counter(summary.services) for summary in self.sets.values()), Counter())

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with how the intervals were made."""
        return {
            "interval": f"{LEVEL:.0%} percentile bootstrap, {DRAWS:,} draws of questions",
            "data_sets": {name: summary.as_json() for name, summary in self.sets.items()},
            AVERAGE: self.average and self.average.as_json(),
        }


def by_set(rollouts: Iterable[RolloutFacts]) -> dict[str, list[RolloutFacts]]:
    """Sorted, so that nothing depends on the order in which rollouts finished."""
    sets: dict[str, list[RolloutFacts]] = defaultdict(list)
    for facts in sorted(rollouts, key=lambda facts: (facts.source, facts.id)):
        sets[facts.source].append(facts)
    return sets


def by_question(rollouts: Iterable[RolloutFacts]) -> dict[str, list[RolloutFacts]]:
    """The scored samples of each question."""
    questions: dict[str, list[RolloutFacts]] = defaultdict(list)
    for facts in rollouts:
        if facts.is_scored:
            questions[facts.group].append(facts)
    return questions


def question_means(questions: Iterable[Sequence[RolloutFacts]]) -> Array:
    """(questions, METRICS): the mean over each question's samples."""
    return np.array([np.mean([values_of(facts) for facts in samples], axis=0) for samples in questions])


def summarize(rollouts: Iterable[RolloutFacts], names: Sequence[str], *, seed: int) -> Summary:
    """The summary of the data sets ``names``, in that order. ``seed`` is of the bootstrap's draws."""
    sets = by_set(rollouts)
    means, draws, summaries = [], [], {}
    for name in names:
        questions = by_question(sets[name])
        values = question_means(questions.values())
        metrics = {}
        if questions:
            means.append(values)
            draws.append(drawn_means(values, seed=seed, name=name))
            metrics = dict(zip(METRICS, intervals(means[-1], draws[-1]), strict=True))
        summaries[name] = _of_set(sets[name], len(questions), metrics)
    whole = len(means) == len(names)
    return Summary(summaries, _average(list(summaries.values()), average_intervals(means, draws)) if whole else None)


def _of_set(rollouts: Sequence[RolloutFacts], questions: int, metrics: Mapping[str, Interval]) -> SetSummary:
    latencies_s = [facts.wall_s or 0.0 for facts in rollouts if facts.is_scored]
    p50, p95 = map(float, np.percentile(latencies_s, [50, 95])) if latencies_s else (None, None)
    services = Counter(facts.failed_by for facts in rollouts if facts.failed_by is not None)
    return SetSummary(questions, len(rollouts), services.total(), services, metrics, p50, p95)


def _average(sets: Sequence[SetSummary], means: Sequence[Interval]) -> SetSummary:
    """Counts are sums, everything else is the mean over the data sets."""
    return SetSummary(
        questions=sum(summary.questions for summary in sets),
        rollouts=sum(summary.rollouts for summary in sets),
        failed=sum(summary.failed for summary in sets),
        services=sum((Counter(summary.services) for summary in sets), Counter()),
        metrics=dict(zip(METRICS, means, strict=True)),
        latency_p50_s=float(np.mean([summary.latency_p50_s for summary in sets if summary.latency_p50_s is not None])),
        latency_p95_s=float(np.mean([summary.latency_p95_s for summary in sets if summary.latency_p95_s is not None])),
    )
