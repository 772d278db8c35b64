"""The tokens of one rollout on a terminal: where each ends, who wrote it, how likely it was."""

import statistics
from collections.abc import Iterator

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from slime_search.rollouts.record import Rollout, Run, Segment

_COLOURS = {"prompt": "dim", "world": "yellow", "model": "cyan"}
_SURPRISING = -2.3
"""Natural log; what was less likely than one in ten is shown in red."""


def show_tokens(rollout: Rollout, console: Console) -> None:
    """Prints every context of ``rollout``, each sampled token with its log-probability where the engine told it."""
    for number, run in enumerate(rollout.runs, start=1):
        for part in _parts(run, number, len(rollout.runs)):
            console.print(part)


def _parts(run: Run, number: int, of: int) -> Iterator[RenderableType]:
    if of > 1:
        yield Rule(f"context {number} of {of}: {run.role or 'agent'}", align="left")
    for segment in run.segments:
        yield Text(_heading(segment), style=f"bold {_COLOURS[segment.owner]}")
        yield _scored(segment, segment.log_probs) if segment.log_probs else _unscored(segment)


def _heading(segment: Segment) -> str:
    parts = [segment.owner, f"{len(segment.tokens)} tokens"]
    if segment.owner != "prompt":
        parts.append("trained" if segment.trained else "not trained")
    if segment.is_correction:
        parts.append("a correction")
    if segment.log_probs:
        parts.append(f"mean log-probability {statistics.fmean(segment.log_probs):.2f}")
    return ", ".join(parts)


def _scored(segment: Segment, log_probs: tuple[float, ...]) -> Columns:
    cells = []
    for token, log_prob in zip(segment.tokens, log_probs, strict=True):
        style = "red" if log_prob < _SURPRISING else "green"
        cells.append(Text.assemble((f"{log_prob:6.2f} ", style), repr(token)))
    return Columns(cells, equal=True, padding=(0, 2))


def _unscored(segment: Segment) -> Text:
    """As it reads, with a stroke after each token."""
    text = Text()
    for token in segment.tokens:
        text.append(token.replace("\n", "⏎\n"), style=_COLOURS[segment.owner])
        text.append("│", style="bright_black")
    return text
