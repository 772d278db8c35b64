"""The report: one HTML file that holds all it shows, asks the network for nothing and runs one script of ours."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from slime_search.report.curve import NARROW, WIDE, Metric, curve_svg, percent, wilson_interval
from slime_search.report.records import read_rollouts, read_summary
from slime_search.report.views import SHADES, questions
from slime_search.rollouts.record import displayable

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
    and ``trajectories`` are rows of `rollouts.record.Rollout`, each question once in stage ``before`` and once in stage
    ``after``. Texts may hold anything: they are escaped, and the page's policy lets no script run but its own.

    Raises:
        DataError: an input does not have the documented shape; the message names the field.
    """
    headline = read_summary(summary)
    style = asset("page.css") + asset("report.css")
    script = asset("tokens.js") + asset("report.js")
    page = environment().get_template("report.html.j2")
    html = page.render(
        title=displayable(title),
        summary=headline,
        others={key: _value(value) for key, value in (headline.model_extra or {}).items()},
        questions=questions(read_rollouts(trajectories)),
        curves=_curves(metrics),
        shades=SHADES,
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
    )
    path.write_text(html, encoding="utf-8", newline="\n")


def environment(*packages: str, characters_shown: int = CHARACTERS_SHOWN) -> Environment:
    """The templates of the report, with escaping on. ``trajectory.html.j2`` holds the pieces that any page can use.

    Args:
        packages: have templates of their own.
        characters_shown: a longer text is cut, with a note.
    """
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "slime_search.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals["endings"] = ENDINGS
    templates.filters |= {
        "count": _count,
        "counted": _counted,
        "duration": _duration,
        "excerpt": partial(_excerpt, limit=characters_shown),
        "interval": _interval,
        "latency": _latency,
        "mark": _mark,
        "percent": percent,
        "told": _value,
    }
    return templates


def asset(name: str) -> str:
    """A style sheet or a script of the report."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
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


def _excerpt(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{limit:,} of {len(text):,} characters shown]"


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


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _latency(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _value(value: Any) -> str:
    """Any JSON value as a short text."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(displayable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)))
