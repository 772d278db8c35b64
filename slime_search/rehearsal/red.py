"""RED beside CoDA: the quickstart's demonstrations mixed into each training step."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from slime_search.core.trajectory import Owner
from slime_search.files import written_whole
from slime_search.local.demonstrations import Demonstration, read_demonstrations
from slime_search.local.presets import EXECUTOR_PROMPT
from slime_search.recipes.coda.recipe import PLANNER

DEMONSTRATIONS = 400
"""Of each role at most."""
FLAGS = (
    "--rollout-function-path slime_search.hooks.red.rollout.generate_rollout "
    "--rollout-data-postprocess-path slime_search.hooks.red.weights.weigh --decrease-batch-size-if-needed "
    "--loss-type custom_loss --custom-loss-function-path slime_search.hooks.red.loss.red_loss --use-rollout-entropy"
).split()
"""As ``examples/coda/train.sh`` has them with USE_RED=1."""


def write_rows(demonstrations: Path, target: Path) -> int:
    """Writes what the policy once imitated as RED reads it, and returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(_rows(read_demonstrations(demonstrations)))
    with written_whole(target) as new:
        pq.write_table(pa.Table.from_pylist(rows), new)
    return len(rows)


def _rows(demonstrations: Iterable[Demonstration]) -> Iterator[dict[str, Any]]:
    taken: Counter[str] = Counter()
    for shown in demonstrations:
        taken[shown.role] += 1
        if taken[shown.role] > DEMONSTRATIONS:
            continue
        # What the world answers has the tags of its frame around it here.
        owners = {Owner.MODEL: "model", Owner.WORLD: "frame"}
        segments = [{"owner": owners[turn.owner], "text": turn.text} for turn in shown.segments]
        asked = f"Question: {shown.question}\n"
        is_planner = shown.role == PLANNER
        yield {
            "prompt": asked if is_planner else EXECUTOR_PROMPT,
            "metadata": {"segments": segments, "task": None if is_planner else shown.question},
        }
