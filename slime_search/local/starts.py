"""Policies that imitation has taught already, so that a quickstart begins with reinforcement learning.

Those of Search-R1, with tags and with tool calls, lie in the folder ``starts``. Each was made by the quickstart's own
cold start in the encyclopedia of seed 0, and is made anew, in minutes, by

    python -m slime_search.local.starts --output slime_search/local/starts
"""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from slime_search.local.artifacts import Artifacts
from slime_search.local.beginnings import Beginnings, Taught
from slime_search.local.policy import save_policy
from slime_search.local.policy_format import POLICY_FORMATS
from slime_search.local.presets import Preset, preset_of
from slime_search.local.progress import progress_on
from slime_search.local.services import restart_with_cpu_env

WORLD_SEED = 0
"""Of the encyclopedia whose words the policies know."""
SHIPPED = Path(__file__).with_name("starts")
_RECIPE = "search-r1"


def shipped_start(preset: Preset) -> Taught | None:
    """The policy that is shipped for a preset; None where there is none and it has to be taught."""
    return Taught(SHIPPED / preset.policy_format.name, WORLD_SEED) if preset.name == _RECIPE else None


def main(
    output: Annotated[Path, typer.Option(help="Gets a folder for each dialect.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Of the imitation; the quickstart's without it.")] = None,
) -> None:
    """Teaches the policies that are shipped, and keeps their weights in float16."""
    for dialect in POLICY_FORMATS:
        with tempfile.TemporaryDirectory() as folder, progress_on(Console()) as progress:
            preset = preset_of(_RECIPE, dialect)
            taught = Beginnings(preset, Artifacts(Path(folder)), progress, seed=WORLD_SEED, steps=steps)
            taught.make_policy()
        shutil.rmtree(output / dialect, ignore_errors=True)
        save_policy(output / dialect, taught.model.to(torch.float16), taught.tokenizer)


if __name__ == "__main__":
    restart_with_cpu_env("slime_search.local.starts")
    typer.run(main)
