"""What a run of trajectories showed, as a row of a table that pytest prints at its end."""

from collections.abc import Sequence

from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from tests.conformance.relay import Turn, shares

MEASURED = "measured"
"""The property of a test's report that holds its row."""

HEADER = (
    "| model | recipe | sampling | trajectories | turns | calls | sampled tokens | token-exact | prefix-exact "
    "| worst log-probability | seconds |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def row(
    names: Sequence[str], samples: Sequence[LocalSample], asked: Sequence[Turn], worst: float, seconds: float
) -> str:
    """A line of Markdown. ``worst`` is in nats, against a forward pass; ``seconds`` are those of the rollouts."""
    calls = sum(len(sample.metadata[RECORD_KEY]["calls"]) for sample in samples)
    counts = [len(samples), len(asked), calls, sum(len(turn[1]) for turn in asked), *shares(asked, samples)]
    return "| " + " | ".join([*names, *map(str, counts), f"{worst:.1e}", f"{seconds:.1f}"]) + " |"
