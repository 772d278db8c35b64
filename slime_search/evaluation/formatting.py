"""How numbers and tables look, in a terminal and in Markdown."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from slime_search.evaluation.bootstrap import Interval

TITLES = {
    "em": "EM",
    "f1": "F1",
    "cover_em": "cover EM",
    "retrieval_hit": "hit rate",
    "searches": "searches",
    "response_tokens": "tokens",
}
NOTHING = "–"
_COUNTS = {"searches": 2, "response_tokens": 0}
"""Their digits after the point; everything else is a share, in percent."""


def shown(value: float | None, metric: str = "em") -> str:
    """A share in percent, or a count."""
    if value is None:
        return NOTHING
    return f"{value:.{_COUNTS[metric]}f}" if metric in _COUNTS else f"{100 * value:.1f}"


def ends(interval: Interval, metric: str = "em") -> str:
    """The interval alone."""
    return f"[{shown(interval.low, metric)}, {shown(interval.high, metric)}]"


def change(interval: Interval, metric: str) -> tuple[str, str]:
    """A difference with its sign, and its interval."""
    scale, digits = (1, _COUNTS[metric]) if metric in _COUNTS else (100, 1)
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in interval)
    return mean, f"[{low}, {high}]"


def seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(first: str, *heads: str) -> Table:
    """A table without a frame, numbers to the right."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    made.add_column(first, overflow="fold")
    for head in heads:
        made.add_column(Text(head), justify="right", no_wrap=True)
    return made


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    cells = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in cells)
