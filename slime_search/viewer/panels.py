"""Training runs at a glance: reward, exact match, searches, lengths and failures over the steps, a small panel each."""

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from slime_search.errors import DataError
from slime_search.viewer.curve import (
    ALONE,
    DARK,
    LIGHT,
    Metric,
    Palette,
    Series,
    number_of,
    percent,
    points,
    smooth,
    smoothing_window,
    style_axes,
    wilson_interval,
)

MOST_RUNS = 6
_MORE_COLOURS = ("#cc79a7", "#d4a300")
"""Okabe and Ito's purple and a dark yellow, for the fourth and fifth run."""
_COLUMNS = 3
_PANEL = (3.1, 2.0)
"""Inches, with its labels."""
_MANY = 12
"""Evaluations, from which on their points are small."""
_NARROWEST = 4.6
_TITLE, _LINE, _LEGEND, _CHARACTER = 0.42, 0.2, 0.6, 0.075
"""Inches: the title's height, a line's of the legend, a legend's key, and a character's width."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows; a ``share`` lies in [0, 1]."""

    key: str
    title: str
    share: bool = False


PANELS = (
    Panel("reward", "reward"),
    Panel("em", "exact match", share=True),
    Panel("searches", "searches a question"),
    Panel("response_tokens", "tokens a response"),
    Panel("truncated", "truncated", share=True),
    Panel("out_of_turns", "out of turns", share=True),
    Panel("failed", "failed by a service", share=True),
)
"""In this order. One of which no row knows anything is left out."""


def draw_panels(
    runs: Mapping[str, Sequence[Metric]], *, title: str, kind: Literal["png", "svg"] = "png", dark: bool = False
) -> bytes:
    """The panels of one run, or of several on top of each other, as an image file; equal rows give equal bytes.

    Args:
        runs: rows by the run's name, at most MOST_RUNS. A row has ``phase`` (``train`` or ``eval``; others are not
            drawn), ``step``, and what is known of the panels' keys. Rows of ``eval`` may name their test ``set``, and
            ``n``, the number of questions, for the interval of a single one.
        dark: colours for a dark page, on no background.

    Raises:
        DataError: no row can be drawn, or there are too many runs to tell apart.
    """
    if len(runs) > MOST_RUNS:
        raise DataError(f"{len(runs)} runs: more than {MOST_RUNS} can't be told apart; name fewer")
    figure = _figure(runs, title, DARK if dark else LIGHT)
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "slime-search"}):
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Run:
    """The rows of one run by their use, and its colours."""

    training: Sequence[Metric]
    evaluation: Sequence[Metric]
    alone: Sequence[Metric]
    train_colour: str
    eval_colour: str

    @property
    def sets(self) -> list[str]:
        return sorted({str(row.get("set", "")) for row in self.evaluation})


def _figure(runs: Mapping[str, Sequence[Metric]], title: str, palette: Palette) -> Figure:
    drawn = [_run(rows, number, len(runs), palette) for number, rows in enumerate(runs.values())]
    panels = [panel for panel in PANELS if any(_has(run, panel.key) for run in drawn)]
    if not panels:
        rows = sum(map(len, runs.values()))
        raise DataError(f"metrics: none of {rows} rows of phase 'train' or 'eval' has a number to draw")
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    width = max(_PANEL[0] * columns, _NARROWEST)
    handles = [*_names(runs, drawn), *_kinds(drawn, palette)]
    beside = max(1, int(width / max(_LEGEND + _CHARACTER * len(str(handle.get_label())) for handle in handles)))
    head = _TITLE + _LINE * math.ceil(len(handles) / beside)
    height = head + _PANEL[1] * lines
    figure = Figure(figsize=(width, height), facecolor=palette.background)
    rect = (0, 0, 1, 1 - head / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=0.04, wspace=0.03, rect=rect))
    _head(figure, handles, title, beside, palette)
    grid = figure.add_gridspec(lines, columns)
    limits = _steps_of(drawn)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        for run in drawn:
            _draw(axes, run, panel)
        style_axes(axes, palette)
        axes.set_title(panel.title, loc="left", color=palette.ink, fontsize=10, fontweight="bold", pad=5)
        if len(drawn) == 1:
            _write_change(axes, drawn[0], panel)
        _scale(axes, panel, limits)
        if index + columns >= len(panels):
            axes.set_xlabel("training step", color=palette.muted, fontsize=9)
    return figure


def _run(rows: Sequence[Metric], number: int, of: int, palette: Palette) -> _Run:
    by_phase: dict[Any, list[Metric]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: number_of(row, "step") if "step" in row else 0.0):
        by_phase[row.get("phase")].append(row)
    colours = (palette.exact_match, palette.alone, palette.searches, *_MORE_COLOURS, palette.reward)
    pair = (palette.reward, palette.exact_match) if of == 1 else (colours[number],) * 2
    return _Run(by_phase["train"], by_phase["eval"], by_phase[ALONE], *pair)


def _has(run: _Run, key: str) -> bool:
    return any(len(_points(rows, key)[0]) for rows in (run.training, run.evaluation))


def _points(rows: Sequence[Metric], key: str) -> tuple[Series, Series]:
    """In the order of the steps."""
    steps, values = points([row for row in rows if row.get(key) is not None], key)
    order = np.argsort(steps, kind="stable")
    return steps[order.astype(int)], values[order.astype(int)]


def _mean_of_sets(rows: Sequence[Metric], key: str) -> tuple[Series, Series]:
    """One value a step, the mean over its test sets."""
    by_step: dict[float, list[float]] = defaultdict(list)
    for step, value in zip(*_points(rows, key), strict=True):
        by_step[step].append(value)
    return np.array([*by_step]), np.array([sum(values) / len(values) for values in by_step.values()])


def _draw(axes: Axes, run: _Run, panel: Panel) -> None:
    steps, values = _points(run.training, panel.key)
    if len(steps):
        window = smoothing_window(len(steps))
        if window > 1:
            axes.plot(steps, values, color=run.train_colour, linewidth=0.7, alpha=0.35)
        marker: dict[str, Any] = {"marker": "o", "markersize": 2.5} if window == 1 else {}
        axes.plot(steps, smooth(values, window), color=run.train_colour, linewidth=1.6, **marker)
    if len(run.sets) > 1:
        for name in run.sets:
            of_set = [row for row in run.evaluation if row.get("set", "") == name]
            axes.plot(*_points(of_set, panel.key), color=run.eval_colour, linewidth=0.7, alpha=0.35, zorder=3)
    elif panel.key == "em":
        _draw_intervals(axes, run)
    steps, values = _mean_of_sets(run.evaluation, panel.key)
    style = _evaluation_style(run, many=len(steps) > _MANY)
    if len(steps):
        axes.plot(steps, values, color=run.eval_colour, zorder=4, clip_on=False, **style)
    if panel.key == "em" and run.alone:
        axes.plot(*_points(run.alone, "em"), color=run.eval_colour, zorder=3.5, alpha=0.5, **{**style, "marker": "x"})


def _evaluation_style(run: _Run, *, many: bool = False) -> dict[str, Any]:
    """Dashed where training has the same colour."""
    dashes = (0, (4, 2)) if run.train_colour == run.eval_colour else "-"
    return {"linewidth": 1.4, "linestyle": dashes, "marker": "o", "markersize": 2.5 if many else 4}


def _draw_intervals(axes: Axes, run: _Run) -> None:
    for row in run.evaluation:
        if row.get("n") and row.get("em") is not None and math.isfinite(rate := float(row["em"])):
            low, high = wilson_interval(rate, int(row["n"]))
            axes.vlines(float(row["step"]), low, high, color=run.eval_colour, alpha=0.4, linewidth=1.4, zorder=3)


def _write_change(axes: Axes, run: _Run, panel: Panel) -> None:
    """First and last value beside the title: those of the evaluation, else of the smoothed training."""
    _, values = _mean_of_sets(run.evaluation, panel.key)
    colour = run.eval_colour
    if not len(values):
        _, values = _points(run.training, panel.key)
        values, colour = smooth(values, smoothing_window(len(values))), run.train_colour
    ends = (values[0], values[-1]) if len(values) > 1 else values
    texts = [percent(value) if panel.share else f"{value:.3g}" for value in ends]
    axes.set_title(" → ".join(texts), loc="right", color=colour, fontsize=9, pad=5)


def _scale(axes: Axes, panel: Panel, steps: tuple[float, float]) -> None:
    low, high = float(axes.dataLim.y0), float(axes.dataLim.y1)
    if panel.key == "em":
        axes.set_ylim(0, 1)
    elif panel.share:
        axes.set_ylim(0, min(1.0, max(0.05, 1.15 * high)))
    else:
        top = 1.1 * high if high > 0 else 0.05
        axes.set_ylim(min(0.0, 1.1 * low), top)
    if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    margin = 0.03 * (steps[1] - steps[0]) or 0.5
    axes.set_xlim(steps[0] - margin, steps[1] + margin)


def _steps_of(runs: Sequence[_Run]) -> tuple[float, float]:
    rows = [row for run in runs for part in (run.training, run.evaluation) for row in part if "step" in row]
    steps = [step for row in rows if math.isfinite(step := number_of(row, "step"))]
    return min(steps), max(steps)


def _head(figure: Figure, handles: Sequence[Artist], title: str, beside: int, palette: Palette) -> None:
    height = figure.get_figheight()
    left, top = 0.1 / figure.get_figwidth(), 1 - 0.08 / height
    heading = figure.text(left, top, title, va="top", color=palette.ink, fontsize=12.5, fontweight="bold")
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 1 - (_TITLE - 0.06) / height),
        ncols=beside,
        frameon=False,
        fontsize=9,
        labelcolor=palette.ink,
        borderpad=0,
        borderaxespad=0,
        columnspacing=1.4,
    )
    legend.set_in_layout(False)
    for text in (heading, *legend.get_texts()):
        text.set_parse_math(False)


def _names(runs: Mapping[str, Any], drawn: Sequence[_Run]) -> list[Artist]:
    if len(drawn) == 1:
        return []
    return [
        Line2D([], [], color=run.eval_colour, linewidth=3, label=name) for name, run in zip(runs, drawn, strict=True)
    ]


def _kinds(drawn: Sequence[_Run], palette: Palette) -> list[Artist]:
    """What the two kinds of lines are."""
    alike = len(drawn) > 1
    train, evaluation = (palette.muted,) * 2 if alike else (drawn[0].train_colour, drawn[0].eval_colour)
    handles: list[Artist] = []
    if any(run.training for run in drawn):
        label = f"training{_smoothing(drawn)}"
        handles.append(Line2D([], [], color=train, linewidth=1.6, label=label))
    if any(run.evaluation for run in drawn):
        style = _evaluation_style(drawn[0])
        handles.append(Line2D([], [], color=evaluation, label=f"evaluation{_sets_and_sizes(drawn)}", **style))
    if any(run.alone for run in drawn):
        style = _evaluation_style(drawn[0]) | {"marker": "x", "alpha": 0.5}
        handles.append(Line2D([], [], color=evaluation, label="evaluation without a teacher", **style))
    return handles


def _smoothing(drawn: Sequence[_Run]) -> str:
    windows = {smoothing_window(len(run.training)) for run in drawn if run.training}
    if windows == {1}:
        return ""
    return f", mean of {windows.pop()} steps" if len(windows) == 1 else ", smoothed"


def _sets_and_sizes(drawn: Sequence[_Run]) -> str:
    sets = {len(run.sets) for run in drawn if run.evaluation}
    if sets != {1}:
        return f", mean of {sets.pop()} sets" if len(sets) == 1 else ", mean of the sets"
    sizes = {row.get("n") for run in drawn for row in run.evaluation} - {None}
    if not sizes:
        return ""
    return ", 95% interval" + (f", n = {sizes.pop()}" if len(sizes) == 1 else "")
