"""The report as a person reads it."""

from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slime_search.doctor.results import Report, Result, Status

_STYLES = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.SKIP: "dim"}
_NAME_WIDTH = 18


def show(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Prints the topics, and the verdict as the last line."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=4)
    table.add_column(max_width=_NAME_WIDTH, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for topic, findings in groupby(report.findings, key=lambda finding: finding.topic):
        table.add_row("", Text(topic, style="bold"), "")
        for _, result in findings:
            table.add_row(*_row(result, verbose=verbose))
    console.print(table)
    counts = ", ".join(f"{report.counts[status]} {status}" for status in Status if report.counts[status])
    console.print(f"\n[dim]{counts}[/dim]", highlight=False)
    style = "bold green" if report.exit_code == 0 else "bold red"
    console.print(f"[{style}]{escape(report.verdict)}[/]", highlight=False, soft_wrap=True)


def _row(result: Result, *, verbose: bool) -> tuple[RenderableType, ...]:
    style = _STYLES[result.status]
    lines: list[RenderableType] = [Text(result.found, style="dim" if result.status is Status.SKIP else "")]
    if result.fix:
        lines.append(Text.assemble(("→ ", style), (result.fix, style)))
    if result.traceback and verbose:
        lines.append(Padding(Text(result.traceback, style="dim"), (0, 0, 0, 2)))
    return Text(result.status, style=style), Text(result.name, style=style), Group(*lines)
