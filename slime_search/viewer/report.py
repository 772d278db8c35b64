"""The report: one HTML file that holds all it shows, asks the network for nothing and runs one script of ours."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from slime_search.errors import DataError
from slime_search.files import write_text
from slime_search.records.rollout import Record, Rollout, displayable, explain
from slime_search.viewer.curve import NARROW, WIDE, Metric, curve_svg, percent, wilson_interval
from slime_search.viewer.rendering import any_value, asset, csp_hash, environment
from slime_search.viewer.views import questions

Rate = Annotated[float, Field(ge=0, le=1)]


class Summary(Record):
    """The headline numbers. Rates lie in [0, 1]; ``questions`` counts the held-out questions behind them.

    Other keys are kept, in ``model_extra``.
    """

    model_config = ConfigDict(extra="allow")

    seed: int
    em_before: Rate
    em_after: Rate
    em_before_greedy: Rate | None = None
    em_after_greedy: Rate | None = None
    wall_s: float = Field(ge=0)
    steps: int = Field(ge=0)
    model_parameters: int = Field(gt=0)
    questions: int = Field(gt=0)


def read_rollouts(rows: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """Checks rows of ``trajectories.jsonl``.

    Raises:
        DataError: a row lacks a field or holds a bad value; the message names both.
    """
    try:
        return TypeAdapter(list[Rollout]).validate_python(rows)
    except ValidationError as error:
        raise DataError(explain("rollouts", error)) from None


def read_summary(summary: Mapping[str, Any]) -> Summary:
    """Checks the summary.

    Raises:
        DataError: a headline number is missing or out of range; the message names it.
    """
    try:
        return Summary.model_validate({displayable(key): value for key, value in summary.items()})
    except ValidationError as error:
        raise DataError(explain("summary", error)) from None


def write_report(
    path: Path,
    *,
    summary: Mapping[str, Any],
    metrics: Sequence[Metric],
    trajectories: Sequence[Mapping[str, Any]],
    title: str = "slime-search quickstart",
) -> None:
    """Writes the report of a run as one self-contained HTML file.

    ``summary`` needs the keys of `Summary` and may hold others, ``metrics`` are rows as in `curve.draw_curve`,
    and ``trajectories`` are rows of `records.rollout.Rollout`, each question once in stage ``before`` and once in stage
    ``after``. Texts may hold anything: they are escaped, and the page's policy lets no script run but its own.

    Raises:
        DataError: an input does not have the documented shape; the message names the field.
    """
    headline = read_summary(summary)
    style = asset("page.css") + asset("report.css")
    script = asset("tokens.js") + asset("report.js")
    templates = environment()
    templates.filters |= {"count": _count, "duration": _duration, "interval": _interval, "percent": percent}
    html = templates.get_template("report.html.j2").render(
        title=displayable(title),
        summary=headline,
        others={key: any_value(value) for key, value in (headline.model_extra or {}).items()},
        questions=questions(read_rollouts(trajectories)),
        curves=_curves(metrics),
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
    )
    write_text(path, html)


def _curves(metrics: Sequence[Metric]) -> dict[str, str]:
    """The curve as data URIs, for each width and background."""
    return {
        f"{width}_{'dark' if dark else 'light'}": "data:image/svg+xml;base64,"
        + base64.b64encode(curve_svg(metrics, title="Learning curve", size=size, dark=dark)).decode()
        for width, size in (("wide", WIDE), ("narrow", NARROW))
        for dark in (False, True)
    }


def _interval(rate: float, n: int) -> str:
    low, high = wilson_interval(rate, n)
    return f"{100 * low:.0f} – {100 * high:.0f}%"


def _count(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
