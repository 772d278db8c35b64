"""The list of checks for the documentation: ``python -m slime_search.reference.doctor``."""

import inspect
import sys

from slime_search.ops.doctor.examine import TOPICS


def table() -> str:
    """What every check says of itself, as Markdown."""
    rows = [f"| {topic} | {_says(check)} |" for topic, module in TOPICS.items() for check in module.CHECKS]
    return "\n".join(["| topic | passes where |", "|---|---|", *rows]) + "\n"


def _says(check: object) -> str:
    return " ".join((inspect.getdoc(check) or "").split()).replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(table())
