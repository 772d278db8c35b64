"""Questions put to a target, with every rollout shown, counted and kept as soon as it is finished."""

import asyncio
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import Any, BinaryIO

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from slime_search.core.callbacks import use_callback
from slime_search.data.questions import Question
from slime_search.evaluation.target import Target
from slime_search.evaluation.transcript import Transcript, seconds, show_tokens
from slime_search.hooks.driving import Finished, Recipe, Seeded, drive_all
from slime_search.hooks.facts import RolloutFacts
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import Rollout, displayable
from slime_search.transport.client import close_sessions

_SCORES = {"em": "exact match", "f1": "F1", "well_formed": "well-formed", "retrieval_hit": "gold answer retrieved"}
_COUNTS = {"searches": "searches", "turns": "turns", "model_tokens": "tokens sampled", "world_tokens": "tokens read"}


class Tally:
    """Scores are means over the rollouts that neither failed nor were aborted, as in training's metrics; the rest over
    all."""

    def __init__(self) -> None:
        self._rollouts: list[RolloutFacts] = []

    def add(self, facts: RolloutFacts) -> None:
        self._rollouts.append(facts)

    def __len__(self) -> int:
        return len(self._rollouts)

    @property
    def all_failed(self) -> bool:
        """Whether no rollout tells anything of the policy."""
        return all(facts.ending == "failed" for facts in self._rollouts)

    def table(self) -> Table:
        """One row a number; those that nothing is known of are left out."""
        rollouts, scored = self._rollouts, [facts for facts in self._rollouts if facts.is_scored]
        questions = len({facts.group for facts in rollouts})
        endings = Counter(facts.ending or "unfinished" for facts in rollouts)
        rows = [
            ("rollouts", f"{len(rollouts)}" + (f" of {questions} questions" if questions != len(rollouts) else "")),
            ("ended", ", ".join(f"{ending} {n}" for ending, n in endings.most_common())),
        ]
        rewards = [facts.reward for facts in scored if facts.reward is not None]
        scores = {label: [f.score[name] for f in scored if name in f.score] for name, label in _SCORES.items()}
        for label, values in {"reward": rewards, **scores}.items():
            if values:
                rows.append((label, f"{statistics.fmean(values):.3f}"))
        for name, label in _COUNTS.items():
            rows.append((f"{label} a rollout", f"{statistics.fmean(getattr(facts, name) for facts in rollouts):.1f}"))
        searches = [latency_s for facts in rollouts for latency_s in facts.latencies_s]
        whole = [facts.wall_s for facts in rollouts if facts.wall_s is not None]
        for label, values in (("a search took", searches), ("a rollout took", whole)):
            if values:
                rows.append(
                    (label, f"{seconds(statistics.median(values))} in the median, {seconds(max(values))} at most")
                )
        table = Table(show_header=False)
        for row in rows:
            table.add_row(*row)
        services = Counter(facts.failed_service for facts in rollouts if facts.failed_service is not None)
        if services:
            table.add_row("failed by", ", ".join(f"{name} {n}" for name, n in services.most_common()), style="red")
        return table


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
            self._recipe = Seeded(target.recipe, lambda sample: seed + (sample.index or 0) % samples)
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
        watching = use_callback(Transcript(self._console)) if self._show is Show.TURNS else nullcontext()
        with watching:
            args, samples = self._target.args, self._taken(questions)
            driven = drive_all(self._recipe, args, samples, self._params, concurrency=concurrency)
            async for index, finished in driven:
                self._finish(questions[index // self._samples], index, finished)
                on_done()

    def _taken(self, questions: Sequence[Question]) -> Iterator[Any]:
        """The samples, each made when its rollout begins."""
        for index in range(len(questions) * self._samples):
            question = questions[index // self._samples]
            if self._show is not Show.LINES:
                self._console.print(Rule(Text(displayable(question.text)), align="left", style="dim"))
            sample = self._target.sample(question)
            sample.index, sample.group_index = index, index // self._samples
            sample.session_id = str(uuid.uuid4())
            yield sample

    def _finish(self, question: Question, index: int, finished: Finished) -> None:
        rollout = rollout_record(
            finished.samples,
            self._codec,
            id=f"{question.id}/{self._id}/{index % self._samples}",
            group=question.id,
            recipe=self._target.name,
            wall_s=finished.wall_s,
        )
        if self._output is not None:
            self._output.write(rollout.line())
            self._output.flush()
        self.tally.add(rollout.facts)
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
    facts = rollout.facts
    about = [f"{label} {facts.score[key]:.3g}" for key, label in (("em", "EM"), ("f1", "F1")) if key in facts.score]
    if facts.reward is not None:
        about.append(f"reward {facts.reward:.3g}")
    about.append(f"{facts.searches} {'search' if facts.searches == 1 else 'searches'}")
    about.append(f"{facts.model_tokens} tokens sampled, {facts.world_tokens} read")
    about.append(seconds(facts.wall_s or 0.0))
    text = Text.assemble(("answer: ", "bold"), rollout.answer or "none", (f"  ({', '.join(about)})", "dim"))
    if facts.score.get("em") == 0 and rollout.gold_answers:
        text.append(f"\ngold:   {' | '.join(rollout.gold_answers)}", style="dim")
    return text
