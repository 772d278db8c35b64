"""An evaluation's numbers as tables, for a terminal and for a paper."""

import statistics
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slime_search.evaluation.bootstrap import Interval
from slime_search.evaluation.published import SETTING, Published
from slime_search.evaluation.scores import METRICS, SHARES
from slime_search.evaluation.summary import AVERAGE, SetSummary, Summary

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


def terminal_tables(summary: Summary) -> RenderableType:
    """What was scored, and what a question cost."""
    scores = table("data set", "questions", "EM", "95 %", "F1", "cover EM", "hit rate")
    costs = table("a question", "searches", "tokens", "p50 s", "p95 s", "failed")
    for name, row in _rows(summary):
        style = "bold" if name == AVERAGE else ""
        em, *others = (_mean(row, metric) for metric in SHARES)
        interval = row.metrics.get("em")
        scores.add_row(
            name, f"{row.questions:,}", em, NOTHING if interval is None else ends(interval), *others, style=style
        )
        latencies = seconds(row.latency_p50_s), seconds(row.latency_p95_s)
        failed = Text(f"{row.failed:,}", style="red" if row.failed else "")
        costs.add_row(name, _mean(row, "searches"), _mean(row, "response_tokens"), *latencies, failed, style=style)
    return Group(scores, "", costs)


def markdown_table(summary: Summary, title: str) -> str:
    """The same in one table. Percentages stand with their 95 % intervals."""
    heads = ["data set", "questions", *TITLES.values(), "p50 s", "p95 s", "failed"]
    rows = []
    for name, row in _rows(summary):
        cells = [_with_ends(row, metric) for metric in METRICS]
        latencies = [seconds(row.latency_p50_s), seconds(row.latency_p95_s)]
        rows.append([name, f"{row.questions:,}", *cells, *latencies, f"{row.failed:,}"])
    return (
        f"{title}\n\n{markdown(heads, rows)}\n"
        "EM, F1, cover EM and hit rate in percent, in brackets 95 % intervals of a bootstrap over questions. "
        "Searches, tokens and seconds are a question's. The average is over data sets.\n"
    )


def published_table(summary: Summary, systems: Sequence[Published]) -> RenderableType:
    """Published exact match beside ours, on the data sets that have the same name."""
    names = [name for name in summary.sets if name in systems[0].by_set]
    if not names:
        known = ", ".join(systems[0].by_set)
        return Text(f"No published numbers: no data set here is called {known}.", style="dim")
    made = table("published EM", "here", *(f"[{number}]" for number in range(1, len(systems) + 1)))
    for name in names:
        made.add_row(name, _mean(summary.sets[name], "em"), *(shown(system.by_set[name]) for system in systems))
    if len(names) > 1:
        ours = [summary.sets[name].metrics for name in names]
        mean = statistics.fmean(metrics["em"].mean for metrics in ours) if all(ours) else None
        means = [statistics.fmean(system.by_set[name] for name in names) for system in systems]
        made.add_row("their mean", shown(mean), *map(shown, means), style="bold")
    legend = [
        f"[{number}] {system.size} {system.name}; {system.source}" for number, system in enumerate(systems, start=1)
    ]
    return Group("", made, Text("\n".join([*legend, f"Measured with {SETTING}."]), style="dim"))


def _mean(row: SetSummary, metric: str) -> str:
    interval = row.metrics.get(metric)
    return shown(None if interval is None else interval.mean, metric)


def _with_ends(row: SetSummary, metric: str) -> str:
    interval = row.metrics.get(metric)
    mean = _mean(row, metric)
    return f"{mean} {ends(interval)}" if metric in SHARES and interval is not None else mean


def _rows(summary: Summary) -> list[tuple[str, SetSummary]]:
    """One set's average is the set itself."""
    rows = list(summary.sets.items())
    if len(rows) > 1 and summary.average is not None:
        rows.append((AVERAGE, summary.average))
    return rows
