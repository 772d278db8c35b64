"""Questions put to a target, with every rollout shown, counted and kept as soon as it is finished."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import Any, BinaryIO

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from slime_search.hooks.samples import RECORD_KEY
from slime_search.observing import observed_by
from slime_search.rollouts.driving import Finished, Recipe, Seeded, drive_all
from slime_search.rollouts.from_samples import rollout_record
from slime_search.rollouts.questions import Question
from slime_search.rollouts.record import Rollout, displayable
from slime_search.rollouts.tally import Tally
from slime_search.rollouts.target import Target
from slime_search.rollouts.token_view import show_tokens
from slime_search.rollouts.transcript import Transcript, seconds
from slime_search.service import close_sessions


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
