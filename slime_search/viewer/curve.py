"""The learning curve: training reward, held-out exact match and searches per question over the training steps."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from slime_search.errors import DataError

Metric: TypeAlias = Mapping[str, float | int | str]
Series: TypeAlias = npt.NDArray[np.float64]

ALONE = "eval_alone"
"""The phase of evaluations without the second model, drawn to compare with."""
WIDE = (8.0, 4.9)
NARROW = (4.2, 4.9)
"""Sizes in inches, for a README column and for a phone."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours that stay apart under the common colour-vision deficiencies (Okabe and Ito), one set a background."""

    background: str
    halo: str
    ink: str
    muted: str
    grid: str
    exact_match: str
    reward: str
    searches: str
    alone: str


LIGHT = Palette("#ffffff", "#ffffff", "#1c2430", "#667080", "#e7eaee", "#0072b2", "#7d8794", "#00805f", "#b5540a")
DARK = Palette("none", "#191f27", "#e8ecf1", "#9ba6b4", "#2c343f", "#56b4e9", "#98a3b0", "#35c79b", "#e69f00")


def draw_curve(metrics: Sequence[Metric], path: Path, *, title: str) -> None:
    """Draws the curve into ``path``, 1600 pixels wide; the suffix names the format (``.png``, ``.svg``, ``.pdf``).

    ``metrics`` are the rows of ``metrics.jsonl``. Rows of phase ``eval`` need ``step`` and ``em`` and may hold
    ``searches`` and ``n`` (the number of questions, for the interval); those of ``eval_alone`` are drawn as a second
    line. ``train`` rows need ``step`` and ``reward`` and may hold ``searches``. Rows of other phases are not drawn, nor
    are values that are not finite.

    Raises:
        DataError: no row can be drawn, or a row lacks one of its keys.
    """
    _figure(metrics, title, WIDE, LIGHT).savefig(path, dpi=200)


def curve_svg(metrics: Sequence[Metric], *, title: str, size: tuple[float, float] = WIDE, dark: bool = False) -> bytes:
    """The curve as an SVG file to embed in a page; equal rows give equal bytes. Rows and errors as in `draw_curve`."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "slime-search"}):
        _figure(metrics, title, size, DARK if dark else LIGHT).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def wilson_interval(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval for a binomial proportion of ``rate`` in ``n`` trials.

    Raises:
        DataError: ``rate`` is outside [0, 1] or ``n`` is not positive.
    """
    if not 0 <= rate <= 1 or n < 1:
        raise DataError(
            f"no binomial interval for a rate of {rate} in n = {n}; a rate lies in [0, 1] and n is positive"
        )
    z = 1.959964
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def percent(rate: float) -> str:
    """A rate in [0, 1] with at most one decimal, ``23.5%``."""
    return f"{100 * rate:.1f}".removesuffix(".0") + "%"


def _figure(metrics: Sequence[Metric], title: str, size: tuple[float, float], palette: Palette) -> Figure:
    evaluations = [row for row in metrics if row.get("phase") == "eval"]
    training = [row for row in metrics if row.get("phase") == "train"]
    if not evaluations and not training:
        raise DataError(f"metrics: none of {len(metrics)} rows has the phase 'eval' or 'train', so there is no curve")
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=0.06)
    figure = Figure(figsize=size, facecolor=palette.background, layout=layout)
    score, searches = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    heading = figure.suptitle(title, x=0.015, ha="left", color=palette.ink, fontsize=12.5, fontweight="bold")
    heading.set_parse_math(False)

    _draw_reward(score, training, palette)
    _draw_alone(score, [row for row in metrics if row.get("phase") == ALONE], palette)
    _draw_exact_match(score, evaluations, palette)
    _draw_searches(searches, training, evaluations, palette)
    for axes in (score, searches):
        style_axes(axes, palette)
    _scale_score(score, palette)
    _scale_searches(searches)
    searches.set_xlabel("training step", color=palette.muted, fontsize=9)
    return figure


def _draw_reward(axes: Axes, training: Sequence[Metric], palette: Palette) -> None:
    steps, rewards = points(training, "reward")
    if not len(steps):
        return
    window = smoothing_window(len(steps))
    axes.plot(steps, rewards, color=palette.reward, linewidth=0.8, alpha=0.4)
    label = "training reward" if window == 1 else f"training reward, mean of {window} steps"
    axes.plot(steps, smooth(rewards, window), color=palette.reward, linewidth=1.8, label=label)


def _draw_alone(axes: Axes, evaluations: Sequence[Metric], palette: Palette) -> None:
    steps, rates = points(evaluations, "em")
    if len(steps):
        style: dict[str, Any] = {"linewidth": 1.6, "linestyle": (0, (4, 2)), "marker": "o", "markersize": 4}
        axes.plot(
            steps, rates, color=palette.alone, zorder=3.5, label="held-out exact match without a teacher", **style
        )


def _draw_exact_match(axes: Axes, evaluations: Sequence[Metric], palette: Palette) -> None:
    steps, rates = points(evaluations, "em")
    if not len(steps):
        return
    colour = palette.exact_match
    label = _exact_match_label(evaluations)
    axes.plot(steps, rates, color=colour, linewidth=1.8, marker="o", markersize=5, zorder=4, label=label)
    for row in evaluations:
        if "n" in row and math.isfinite(rate := float(row["em"])):
            low, high = wilson_interval(rate, int(row["n"]))
            axes.vlines(float(row["step"]), low, high, color=colour, alpha=0.45, linewidth=1.6, zorder=3)
    _label_point(axes, (steps[-1], rates[-1]), palette, offset=(9, 0), ha="left", va="center")
    if len(steps) > 1:
        # Below the rising curve, unless the axis is there.
        offset, va = ((7, 7), "bottom") if rates[0] < 0.12 else ((7, -7), "top")
        _label_point(axes, (steps[0], rates[0]), palette, offset=offset, ha="left", va=va)


def _label_point(
    axes: Axes, point: tuple[float, float], palette: Palette, *, offset: tuple[int, int], ha: str, va: str
) -> None:
    axes.annotate(
        percent(point[1]),
        point,
        xytext=offset,
        textcoords="offset points",
        ha=ha,
        va=va,
        color=palette.exact_match,
        fontsize=12,
        fontweight="bold",
        zorder=5,
        path_effects=[withStroke(linewidth=3, foreground=palette.halo)],
    )


def _exact_match_label(evaluations: Sequence[Metric]) -> str:
    sizes = {int(row["n"]) for row in evaluations if "n" in row}
    interval = ", 95% interval" if sizes else ""
    return f"held-out exact match{interval}" + (f", n = {sizes.pop()}" if len(sizes) == 1 else "")


def _draw_searches(axes: Axes, training: Sequence[Metric], evaluations: Sequence[Metric], palette: Palette) -> None:
    steps, counts = points([row for row in training if "searches" in row], "searches")
    if len(steps):
        axes.plot(steps, counts, color=palette.searches, linewidth=0.8, alpha=0.4)
        axes.plot(steps, smooth(counts, smoothing_window(len(steps))), color=palette.searches, linewidth=1.8)
    held_out = points([row for row in evaluations if "searches" in row], "searches")
    axes.plot(*held_out, color=palette.searches, linestyle="none", marker="o", markersize=4)
    axes.set_title("searches per question", loc="left", color=palette.searches, fontsize=9, pad=4)


def style_axes(axes: Axes, palette: Palette) -> None:
    """A light grid, integer steps, and no frame but the line of steps."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.grid)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.muted, labelsize=9, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02)


def _scale_score(axes: Axes, palette: Palette) -> None:
    axes.set_ylim(min(0.0, axes.dataLim.y0), max(1.0, axes.dataLim.y1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    # Matplotlib lists by drawing order; the held-out line is the one to read first.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        reverse=True,
        frameon=False,
        fontsize=9,
        labelcolor=palette.ink,
        borderaxespad=0.2,
    )


def _scale_searches(axes: Axes) -> None:
    most = axes.dataLim.y1
    axes.set_ylim(0, max(1, math.ceil(most)) if math.isfinite(most) else 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))


def number_of(row: Metric, key: str) -> float:
    """Raises DataError where the row lacks it, or has no number there."""
    try:
        return float(row[key])
    except KeyError as error:
        raise DataError(f"metrics: a row of phase {row['phase']!r} lacks the key {error}: {dict(row)}") from None
    except (TypeError, ValueError):
        raise DataError(f"metrics: {key} is {row[key]!r}, which is no number, in {dict(row)}") from None


def points(rows: Sequence[Metric], key: str) -> tuple[Series, Series]:
    """Steps and finite values of ``key``. Raises DataError where a row lacks it or its step, or one is no number."""
    found = [(number_of(row, "step"), number_of(row, key)) for row in rows]
    finite = [pair for pair in found if all(map(math.isfinite, pair))]
    steps, values = zip(*finite, strict=True) if finite else ((), ())
    return np.asarray(steps), np.asarray(values)


def smoothing_window(count: int) -> int:
    """An odd number of steps to average over, about an eighth of the run."""
    return 2 * min(count // 16, 12) + 1


def smooth(values: Series, window: int) -> Series:
    """A centred mean; near the ends it averages over what is there."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
