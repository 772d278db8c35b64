"""The report: one HTML file that holds all it shows, asks the network for nothing and runs one script of ours."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from slime_search.report.curve import NARROW, WIDE, Metric, curve_svg, percent, wilson_interval
from slime_search.report.records import read_rollouts, read_summary
from slime_search.report.rendering import any_value, asset, csp_hash, environment
from slime_search.report.views import questions
from slime_search.rollouts.record import displayable


def write_report(
    path: Path,
    *,
    summary: Mapping[str, Any],
    metrics: Sequence[Metric],
    trajectories: Sequence[Mapping[str, Any]],
    title: str = "slime-search quickstart",
) -> None:
    """Writes the report of a run as one self-contained HTML file.

    ``summary`` needs the keys of `records.Summary` and may hold others, ``metrics`` are rows as in `curve.draw_curve`,
    and ``trajectories`` are rows of `rollouts.record.Rollout`, each question once in stage ``before`` and once in stage
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
    path.write_text(html, encoding="utf-8", newline="\n")


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
