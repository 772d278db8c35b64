"""What checks find, and what it means together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GPU = "GPUs"
"""The name of the check without which training can't start, whatever else is ready."""
NO_GPU = "no GPU: training can't start; everything else is ready"


class Status(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Result(NamedTuple):
    """What one check found, and how to put it right."""

    name: str
    status: Status
    found: str
    fix: str = ""
    traceback: str = ""
    """Of a check that crashed."""


def passed(name: str, found: str) -> Result:
    return Result(name, Status.PASS, found)


def warned(name: str, found: str, fix: str) -> Result:
    return Result(name, Status.WARN, found, fix)


def failed(name: str, found: str, fix: str) -> Result:
    return Result(name, Status.FAIL, found, fix)


def skipped(name: str, why: str) -> Result:
    return Result(name, Status.SKIP, why)


class Waits(Exception):
    """A check can't be made before something else is put right; the message says what."""


class Finding(NamedTuple):
    topic: str
    result: Result


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, in the order in which it was checked."""

    findings: Sequence[Finding]
    has_gpu: bool

    @property
    def counts(self) -> Counter[Status]:
        return Counter(finding.result.status for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 where nothing fails, else 1."""
        return int(self.counts[Status.FAIL] > 0)

    @property
    def verdict(self) -> str:
        """One line."""
        failed = [finding.result.name for finding in self.findings if finding.result.status is Status.FAIL]
        if not failed:
            return "ready: training can start"
        if failed == [GPU] and not self.has_gpu:
            return NO_GPU
        problems = f"{len(failed)} problem{'s' if len(failed) > 1 else ''}"
        return f"not ready: {problems} to put right" + ("" if self.has_gpu else "; one is that there is no GPU")

    def as_json(self) -> dict[str, Any]:
        checks = [{"topic": topic, **result._asdict(), "status": str(result.status)} for topic, result in self.findings]
        return {"verdict": self.verdict, "exit_code": self.exit_code, "has_gpu": self.has_gpu, "checks": checks}


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
