"""What agents do, on a terminal, as soon as they do it."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from slime_search.core.dialect import ToolCall
from slime_search.core.engine import Finish
from slime_search.core.tool import ToolResult, passages_result
from slime_search.core.trajectory import CallRecord, Ending, Segment, Trajectory
from slime_search.records.rollout import Rollout, Run, displayable
from slime_search.records.rollout import Segment as Written

_FIRST = "cyan"
_OTHERS = ("green", "magenta", "yellow", "blue")
_INDENT = 4
_COLOURS = {"prompt": "dim", "world": "yellow", "model": "cyan"}
_SURPRISING = -2.3
"""Natural log; what was less likely than one in ten is shown in red."""


@dataclass(frozen=True, slots=True)
class _Agent:
    name: str
    colour: str
    trajectory: Trajectory


class Transcript:
    """A callback that prints. The first agent of a rollout has its role's name, those that it calls on have numbers.

    One rollout at a time: agents are told apart, rollouts are not.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._agents: list[_Agent] = []
        self._roles: Counter[str] = Counter()

    def on_start(self, role: str, trajectory: Trajectory) -> None:
        if not self._agents:
            self._agents.append(_Agent(role, _FIRST, trajectory))
            # A baseline has searched before its agent begins.
            for call in trajectory.calls:
                self._found(call, _FIRST)
            return
        self._roles[role] += 1
        colour = _OTHERS[(len(self._agents) - 1) % len(_OTHERS)]
        self._agents.append(_Agent(f"{role} {self._roles[role]}", colour, trajectory))

    def on_observation(self, trajectory: Trajectory, segment: Segment) -> None:
        agent = self._agent(trajectory)
        what = f"is corrected: {' '.join(segment.text.split())}" if segment.is_correction else "reads on"
        style = "yellow" if segment.is_correction else "dim"
        self._line(f"{agent.name} {what} ({len(segment.token_ids)} tokens)", style, wrap=True)

    def on_turn(self, trajectory: Trajectory, segment: Segment) -> None:
        agent = self._agent(trajectory)
        tokens = f"{len(segment.token_ids)} tokens"
        cut = {Finish.LENGTH: ", cut off", Finish.ABORT: ", aborted"}.get(segment.finish or Finish.STOP, "")
        frame = Panel(Text(_shown(segment.text.strip())), title=agent.name, title_align="left")
        frame.subtitle, frame.subtitle_align, frame.border_style = f"{tokens}{cut}", "right", agent.colour
        self._console.print(frame)

    def on_call(self, trajectory: Trajectory, call: ToolCall, result: ToolResult, latency_s: float) -> None:
        record = CallRecord(0, call.tool, call.query, tuple(result.passages), latency_s, result.details)
        self._found(record, self._agent(trajectory).colour)
        # Beside passages, a tool may have the model read something else: what an agent made of them.
        if result.blocks != passages_result(result.passages).blocks:
            self._line(f"  → {' '.join(' '.join(result.blocks).split())}", "", wrap=True)
        elif not result.passages:
            self._line("  nothing was found", "yellow")

    def on_end(self, trajectory: Trajectory) -> None:
        agent = self._agent(trajectory)
        if trajectory.error is not None:
            self._line(f"{agent.name} failed: {trajectory.error}", "red", wrap=True)
        elif trajectory.ending is not Ending.ANSWERED:
            self._line(f"{agent.name} ended {trajectory.ending}", "yellow")
        if agent is self._agents[0]:
            self._agents.clear()
            self._roles.clear()

    def _found(self, call: CallRecord, colour: str) -> None:
        self._line(f"{call.tool}: {call.query}  ({seconds(call.latency_s)})", colour, wrap=True)
        for query in call.details.get("queries", ()):
            self._line(f"  searched for: {query}", "dim", wrap=True)
        for rank, passage in enumerate(call.passages, start=1):
            self._line(f"  {rank}  {passage.title.strip()}: {' '.join(passage.text.split())}", "dim")

    def _agent(self, trajectory: Trajectory) -> _Agent:
        return next(agent for agent in self._agents if agent.trajectory is trajectory)

    def _line(self, text: str, style: str, *, wrap: bool = False) -> None:
        line = Text(_shown(text), style=style, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")
        self._console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


def seconds(value: float) -> str:
    """``12 ms`` below a second, else ``1.2 s``."""
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def _shown(text: str) -> str:
    return str(displayable(text))


def show_tokens(rollout: Rollout, console: Console) -> None:
    """Prints every context of ``rollout``, each sampled token with its log-probability where the engine gave it."""
    for number, run in enumerate(rollout.runs, start=1):
        for part in _parts(run, number, len(rollout.runs)):
            console.print(part)


def _parts(run: Run, number: int, of: int) -> Iterator[RenderableType]:
    if of > 1:
        yield Rule(f"context {number} of {of}: {run.role or 'agent'}", align="left")
    for segment in run.segments:
        yield Text(_heading(segment), style=f"bold {_COLOURS[segment.owner]}")
        yield _scored(segment, segment.log_probs) if segment.log_probs else _unscored(segment)


def _heading(segment: Written) -> str:
    parts = [segment.owner, f"{len(segment.tokens)} tokens"]
    if segment.owner != "prompt":
        parts.append("trained" if segment.trained else "not trained")
    if segment.is_correction:
        parts.append("a correction")
    if segment.log_probs:
        parts.append(f"mean log-probability {statistics.fmean(segment.log_probs):.2f}")
    return ", ".join(parts)


def _scored(segment: Written, log_probs: tuple[float, ...]) -> Columns:
    cells = []
    for token, log_prob in zip(segment.tokens, log_probs, strict=True):
        style = "red" if log_prob < _SURPRISING else "green"
        cells.append(Text.assemble((f"{log_prob:6.2f} ", style), repr(token)))
    return Columns(cells, equal=True, padding=(0, 2))


def _unscored(segment: Written) -> Text:
    """As it reads, with a stroke after each token."""
    text = Text()
    for token in segment.tokens:
        text.append(token.replace("\n", "⏎\n"), style=_COLOURS[segment.owner])
        text.append("│", style="bright_black")
    return text
