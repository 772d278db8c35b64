"""What checks find, and what it means together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

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
