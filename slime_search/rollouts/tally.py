"""What came of many rollouts, in a small table."""

import statistics
from collections import Counter
from itertools import groupby

from rich.table import Table

from slime_search.hooks.coda_metrics import EXECUTOR
from slime_search.rollouts.record import Rollout, Run
from slime_search.rollouts.transcript import seconds

_SCORES = {"em": "exact match", "f1": "F1", "well_formed": "well-formed", "retrieval_hit": "gold answer retrieved"}
_COUNTS = {"searches": "searches", "turns": "turns", "model": "tokens sampled", "world": "tokens read"}


class Tally:
    """Scores are means over the rollouts that neither failed nor were aborted, as in training's metrics; the rest over
    all."""

    def __init__(self) -> None:
        self._questions: set[str] = set()
        self._endings: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._values: dict[str, list[float]] = {}
        self._latencies_s: list[float] = []

    def add(self, rollout: Rollout, failed_service: str | None) -> None:
        """Counts one rollout, and the service that failed it, if one did."""
        self._questions.add(rollout.group)
        self._endings[rollout.ending or "unfinished"] += 1
        if failed_service is not None:
            self._failures[failed_service] += 1
        elif rollout.reward is not None and rollout.ending != "aborted":
            self._add("reward", rollout.reward)
        for name in _SCORES:
            if name in rollout.score:
                self._add(name, rollout.score[name])
        # A planner's task is no search; its executor's searches are among the calls, too.
        self._add("searches", sum(EXECUTOR not in call.details for call in rollout.calls))
        self._add("turns", sum(map(_turns, rollout.runs)))
        self._add("model", rollout.tokens_of("model"))
        self._add("world", rollout.tokens_of("world"))
        self._latencies_s += [call.latency_s for call in rollout.calls]
        if rollout.wall_s is not None:
            self._add("wall_s", rollout.wall_s)

    def __len__(self) -> int:
        return self._endings.total()

    @property
    def all_failed(self) -> bool:
        """Whether no rollout tells anything of the policy."""
        return self._endings.total() == self._endings["failed"]

    def table(self) -> Table:
        """One row a number; those that nothing is known of are left out."""
        table = Table(show_header=False)
        of = f" of {len(self._questions)} questions" if len(self._questions) != len(self) else ""
        table.add_row("rollouts", f"{len(self)}{of}")
        table.add_row("ended", ", ".join(f"{ending} {n}" for ending, n in self._endings.most_common()))
        for name, label in {"reward": "reward", **_SCORES}.items():
            if name in self._values:
                table.add_row(label, f"{statistics.fmean(self._values[name]):.3f}")
        for name, label in _COUNTS.items():
            if name in self._values:
                table.add_row(f"{label} a rollout", f"{statistics.fmean(self._values[name]):.1f}")
        for label, values in (("a call took", self._latencies_s), ("a rollout took", self._values.get("wall_s", []))):
            if values:
                table.add_row(
                    label, f"{seconds(statistics.median(values))} in the median, {seconds(max(values))} at most"
                )
        if self._failures:
            table.add_row(
                "failed by", ", ".join(f"{name} {n}" for name, n in self._failures.most_common()), style="red"
            )
        return table

    def _add(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)


def _turns(run: Run) -> int:
    """A turn of the model may be several segments."""
    return sum(owner == "model" for owner, _ in groupby(segment.owner for segment in run.segments))
