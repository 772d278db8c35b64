"""The report: one HTML file that holds all it shows, asks the network for nothing and runs one script of ours."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from slime_search.report.curve import NARROW, WIDE, Metric, curve_svg, percent, wilson_interval
from slime_search.report.records import displayable, read_summary, read_trajectories
from slime_search.report.views import SHADES, questions

CHARACTERS_SHOWN = 1_500
"""A longer question, answer, query or passage is cut on the page, with a note."""

ENDINGS = {
    "answered": "The model gave an answer.",
    "truncated": "The trajectory ran into its token limit.",
    "out_of_turns": "The model used up its turns without an answer.",
    "failed": "A service failed. The trajectory carries no training signal.",
    "aborted": "The rollout was stopped before this trajectory ended.",
}


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
    and ``trajectories`` are records as in `records.Trajectory`, each question once in stage ``before`` and once in
    stage ``after``. Texts may hold anything: they are escaped, and the page's policy lets no script run but its own.

    Raises:
        DataError: an input does not have the documented shape; the message names the field.
    """
    headline = read_summary(summary)
    style, script = _asset("report.css"), _asset("report.js")
    page = environment().get_template("report.html.j2")
    html = page.render(
        title=displayable(title),
        summary=headline,
        others={key: _value(value) for key, value in (headline.model_extra or {}).items()},
        questions=questions(read_trajectories(trajectories)),
        curves=_curves(metrics),
        shades=SHADES,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    )
    path.write_text(html, encoding="utf-8", newline="\n")


def environment() -> Environment:
    """The page's templates, with escaping on. ``trajectory.html.j2`` holds the pieces that any page can use."""
    templates = Environment(
        loader=PackageLoader("slime_search.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals["endings"] = ENDINGS
    templates.filters |= {
        "count": _count,
        "duration": _duration,
        "excerpt": _excerpt,
        "interval": _interval,
        "mark": _mark,
        "percent": percent,
    }
    return templates


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """The source expression by which a content security policy allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _curves(metrics: Sequence[Metric]) -> dict[str, str]:
    """The curve as data URIs, for each width and background."""
    return {
        f"{width}_{'dark' if dark else 'light'}": "data:image/svg+xml;base64,"
        + base64.b64encode(curve_svg(metrics, title="Learning curve", size=size, dark=dark)).decode()
        for width, size in (("wide", WIDE), ("narrow", NARROW))
        for dark in (False, True)
    }


def _excerpt(text: str) -> str:
    if len(text) <= CHARACTERS_SHOWN:
        return text
    return f"{text[:CHARACTERS_SHOWN]}… [{CHARACTERS_SHOWN:,} of {len(text):,} characters shown]"


def _mark(text: str, answers: Sequence[str]) -> Markup:
    """``text``, escaped, with the gold answers in it highlighted as whole words."""
    wanted = "|".join(re.escape(answer) for answer in answers if answer.strip())
    if not wanted:
        return escape(text)
    parts = re.split(rf"(?<!\w)({wanted})(?!\w)", text, flags=re.IGNORECASE)
    marked = (Markup("<mark>{}</mark>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
    return Markup("").join(marked)


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


def _value(value: Any) -> str:
    """Any JSON value of the summary as a short text."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(displayable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)))
