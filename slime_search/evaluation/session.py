"""Questions put to a target, with every rollout shown, counted and kept as soon as it is finished."""

import asyncio
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from itertools import groupby
from typing import Any, BinaryIO

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from slime_search.core.callbacks import observed_by
from slime_search.evaluation.questions import Question
from slime_search.evaluation.target import Target
from slime_search.evaluation.transcript import Transcript, seconds, show_tokens
from slime_search.hooks.driving import Finished, Recipe, Seeded, drive_all
from slime_search.hooks.metrics import EXECUTOR
from slime_search.hooks.samples import RECORD_KEY
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import Rollout, Run, displayable
from slime_search.transport.client import close_sessions

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


class Show(StrEnum):
    """How much of a rollout is printed."""

    LINES = "lines"
    TURNS = "turns"
    TOKENS = "tokens"


class Session:
    """One event loop, on which connections are kept from question to question.

    Args:
        params: the sampling parameters of every request.
        samples: attempts at each question.
        seed: the first attempt's; as in slime, the next one's is one more. None leaves it to the engine.
        output: takes each rollout as a line.
    """

    def __init__(
        self,
        target: Target,
        console: Console,
        *,
        params: Mapping[str, Any],
        samples: int = 1,
        seed: int | None = None,
        show: Show = Show.TURNS,
        output: BinaryIO | None = None,
    ) -> None:
        self.tally = Tally()
        self._target = target
        self._recipe: Recipe = target.recipe
        if seed is not None:
            self._recipe = Seeded(target.recipe, lambda sample: seed + sample.index % samples)
        self._codec = target.codec
        self._console = console
        self._params = params
        self._samples = samples
        self._show = show
        self._output = output
        self._runner = asyncio.Runner()
        # Lines of several sessions may be appended to one file.
        self._id = uuid.uuid4().hex[:8]

    def ask(
        self, questions: Sequence[Question], *, concurrency: int = 1, on_done: Callable[[], None] = lambda: None
    ) -> None:
        """Puts every question, as often as each is attempted. Turns and tokens are shown one rollout at a time.

        Raises:
            SlimeSearchError: what the recipe's hooks raise; a rollout that a service failed is no error.
        """
        at_a_time = concurrency if self._show is Show.LINES else 1
        self._runner.run(self._ask(questions, at_a_time, on_done))

    async def _ask(self, questions: Sequence[Question], concurrency: int, on_done: Callable[[], None]) -> None:
        watching = observed_by(Transcript(self._console)) if self._show is Show.TURNS else nullcontext()
        with watching:
            args, samples = self._target.args, self._taken(questions)
            async for place, finished in drive_all(self._recipe, args, samples, self._params, concurrency=concurrency):
                self._finish(questions[place // self._samples], place, finished)
                on_done()

    def _taken(self, questions: Sequence[Question]) -> Iterator[Any]:
        """The samples, each made when its rollout begins."""
        for place in range(len(questions) * self._samples):
            question = questions[place // self._samples]
            if self._show is not Show.LINES:
                self._console.print(Rule(Text(displayable(question.text)), align="left", style="dim"))
            sample = self._target.sample(question)
            sample.index, sample.group_index = place, place // self._samples
            sample.session_id = str(uuid.uuid4())
            yield sample

    def _finish(self, question: Question, place: int, finished: Finished) -> None:
        rollout = rollout_record(
            finished.samples,
            self._codec,
            id=f"{question.id}/{self._id}/{place % self._samples}",
            group=question.id,
            recipe=self._target.name,
            wall_s=finished.wall_s,
        )
        if self._output is not None:
            self._output.write(rollout.line())
            self._output.flush()
        self.tally.add(rollout, finished.samples[-1].metadata[RECORD_KEY]["failed_service"])
        if self._show is Show.LINES:
            self._console.print(_line(rollout))
            return
        if self._show is Show.TOKENS:
            show_tokens(rollout, self._console)
        self._console.print(_result(rollout))

    def close(self) -> None:
        """Closes connections and loop."""
        self._runner.run(close_sessions())
        self._runner.close()


def _line(rollout: Rollout) -> Text:
    """One line; it is cut where the terminal ends."""
    mark, style = {1.0: ("✓", "green"), 0.0: ("✗", "red")}.get(rollout.score.get("em", -1.0), ("·", ""))
    if rollout.ending == "failed":
        mark, style = "!", "red"
    answer = rollout.error or rollout.answer or f"({rollout.ending})"
    gold = f"  [{rollout.gold_answers[0]}]" if mark == "✗" and rollout.gold_answers else ""
    text = f"{mark} {rollout.question} → {answer}{gold}"
    return Text(" ".join(text.split()), style=style, no_wrap=True, overflow="ellipsis")


def _result(rollout: Rollout) -> Text:
    told = [f"{name} {rollout.score[key]:.3g}" for key, name in (("em", "EM"), ("f1", "F1")) if key in rollout.score]
    if rollout.reward is not None:
        told.append(f"reward {rollout.reward:.3g}")
    told.append(f"{len(rollout.calls)} calls")
    told.append(f"{rollout.tokens_of('model')} tokens sampled, {rollout.tokens_of('world')} read")
    told.append(seconds(rollout.wall_s or 0.0))
    text = Text.assemble(("answer: ", "bold"), rollout.answer or "none", (f"  ({', '.join(told)})", "dim"))
    if rollout.score.get("em") == 0 and rollout.gold_answers:
        text.append(f"\ngold:   {' | '.join(rollout.gold_answers)}", style="dim")
    return text
