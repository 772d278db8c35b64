"""Runs the checks, topic by topic."""

import traceback
from collections.abc import Callable, Iterator
from types import ModuleType

from slime_search.ops.doctor import (
    configuration,
    coverage,
    data,
    engine,
    index,
    machine,
    model,
    search,
    slime_hooks,
    software,
)
from slime_search.ops.doctor.results import Finding, Report, Result, Status, Waits, skipped
from slime_search.ops.doctor.setup import Setup

Check = Callable[[Setup], Iterator[Result]]

TOPICS: dict[str, ModuleType] = {
    "Software": software,
    "slime": slime_hooks,
    "Configuration": configuration,
    "Model": model,
    "Data": data,
    "Search": search,
    "Index": index,
    "Coverage": coverage,
    "Engine": engine,
    "Machine": machine,
}


def examine(setup: Setup, on_check: Callable[[str], object] = lambda name: None) -> Report:
    """Makes every check. ``on_check`` is called with the topic and the check before each."""
    findings = []
    for topic, module in TOPICS.items():
        for check in module.CHECKS:
            on_check(f"{topic}: {_name(check)}")
            findings += [Finding(topic, result) for result in carry_out(check, setup)]
    return Report(findings, has_gpu=bool(setup.gpus))


def carry_out(check: Check, setup: Setup) -> list[Result]:
    """What a check finds, up to where it stops."""
    results: list[Result] = []
    try:
        results.extend(check(setup))
    except Waits as reason:
        results.append(skipped(_name(check), str(reason)))
    except Exception as error:  # noqa: BLE001
        # The one place where anything is caught: a check that breaks must not hide what the others find, and is itself
        # reported as a failure, with its traceback.
        results.append(
            Result(
                _name(check),
                Status.FAIL,
                f"the check itself broke: {type(error).__name__}: {error}",
                "please report it, with the traceback that --json shows",
                traceback.format_exc(),
            )
        )
    return results


def _name(check: Check) -> str:
    return check.__name__.replace("_", " ")
