"""Rehearsals of a few steps, with slime's own trainer, Megatron, SGLang and its router; minutes each."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from slime_search.local.artifacts import Artifacts
from slime_search.local.presets import Preset
from slime_search.records.slime_dump import read_samples
from slime_search.rehearsal.folder import RehearsalFolder
from slime_search.rehearsal.installation import Installation, installation
from slime_search.rehearsal.recipes import rehearsed
from slime_search.rehearsal.rehearsal import Rehearsal, RehearsalConfig
from slime_search.rehearsal.starting import make_start

HERE = Path(__file__).parent
COLD_START_STEPS = 250
"""Enough for rewards now and then, and for turns so certain that bf16 hardly tells trainer and engine apart."""
LIMIT_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
            if not os.environ.get("SLIME_TRAIN"):
                item.add_marker(pytest.mark.skip(reason="make test-slime-train runs it"))


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal has left."""

    folder: RehearsalFolder
    summary: dict[str, Any]
    scalars: dict[str, dict[int, float]] = field(repr=False)
    """Of slime's TensorBoard files, by tag and step."""

    def samples(self, name: str) -> list[Any]:
        return list(read_samples(self.folder.dumps / f"{name}.pt"))

    @property
    def log(self) -> str:
        return (self.folder.logs / "training.log").read_text(errors="replace")


Rehearse = Callable[..., Rehearsed]


@pytest.fixture(scope="session")
def installed() -> Installation:
    return installation(os.environ)


@pytest.fixture(scope="session")
def start_of_preset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Preset], Artifacts]:
    """The start of each preset, made once."""
    made: dict[str, Artifacts] = {}

    def start(preset: Preset) -> Artifacts:
        name = f"{preset.name}-{preset.policy_format.name}"
        if name not in made:
            folder = RehearsalFolder(tmp_path_factory.mktemp(name), Artifacts(tmp_path_factory.mktemp(f"{name}-start")))
            quiet = Console(quiet=True)
            make_start(folder, preset, seed=0, steps=COLD_START_STEPS, console=quiet, say=lambda text: None)
            made[name] = folder.start
        return made[name]

    return start


@pytest.fixture
def rehearse(installed: Installation, start_of_preset: Callable[[Preset], Artifacts], tmp_path: Path) -> Rehearse:
    def run(recipe: str, *flags: str, steps: int = 2, red: bool = False, **more: Any) -> Rehearsed:
        named = rehearsed(recipe, None, red=red)
        folder = RehearsalFolder(tmp_path / "rehearsal", start_of_preset(named.preset))
        config = RehearsalConfig(folder, named, installed, steps, slime_flags=flags, **more)
        summary = dict(Rehearsal(config, Console()).run())
        return Rehearsed(folder, summary, _scalars(sorted(folder.tensorboard.glob("events.out.tfevents.*"))))

    return run


def _scalars(files: Sequence[Path]) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for file in files:
        events = EventAccumulator(str(file), size_guidance={SCALARS: 0}, purge_orphaned_data=False).Reload()
        for tag in events.Tags()[SCALARS]:
            found.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return found
