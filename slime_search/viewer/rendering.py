"""What every page is rendered with: templates that escape, their filters, and hashes for a content security policy."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from slime_search.records.rollout import displayable
from slime_search.viewer.views import SHADES

CHARACTERS_SHOWN = 1_500
"""A longer question, answer, query or passage is cut on the page, with a note."""

ENDINGS = {
    "answered": "The model gave an answer.",
    "truncated": "The trajectory ran into its token limit.",
    "out_of_turns": "The model used up its turns without an answer.",
    "failed": "A service failed. The trajectory carries no training signal.",
    "aborted": "The rollout was stopped before this trajectory ended.",
}


def environment(*packages: str, characters_shown: int = CHARACTERS_SHOWN) -> Environment:
    """The templates of the report, with escaping on. ``trajectory.html.j2`` holds the pieces that any page can use.

    Args:
        packages: have templates of their own.
        characters_shown: a longer text is cut, with a note.
    """
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "slime_search.viewer")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals |= {"endings": ENDINGS, "shades": SHADES}
    templates.filters |= {
        "counted": _counted,
        "excerpt": partial(_excerpt, limit=characters_shown),
        "latency": _latency,
        "mark": _mark,
        "text": any_value,
    }
    return templates


def asset(name: str) -> str:
    """A style sheet or a script of the report."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """The source expression by which a content security policy allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def any_value(value: Any) -> str:
    """Any JSON value as a short text."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(displayable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)))


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


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _latency(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
