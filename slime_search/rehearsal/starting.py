"""The policy that a rehearsal starts from: the quickstart's, cold-started as there, kept and used again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slime_search.errors import ConfigError
from slime_search.files import write_text
from slime_search.local.artifacts import Artifacts
from slime_search.local.beginnings import Beginnings
from slime_search.local.presets import Preset
from slime_search.local.progress import progress_on
from slime_search.rehearsal.conversion import for_megatron
from slime_search.rehearsal.folder import RehearsalFolder

_MADE = "start.json"
_ORIGIN = "policy.json"


def make_start(
    folder: RehearsalFolder, preset: Preset, *, seed: int, steps: int | None, console: Any, say: Callable[[str], None]
) -> None:
    """Leaves the policy in ``folder.policy``, and what else there is to start from in ``folder.start``.

    A start of the same recipe, dialect and seed is used again.

    Raises:
        ConfigError: the start in the folder is another recipe's or another seed's.
    """
    start = folder.start
    wanted = {"recipe": preset.name, "dialect": preset.policy_format.name, "seed": seed}
    made = _made(start)
    if made is None:
        with progress_on(console) as progress:
            beginnings = Beginnings(preset, start, progress, seed=seed, steps=steps)
            beginnings.make_frozen_model()
            beginnings.make_policy()
        write_text(start.folder / _MADE, json.dumps(wanted) + "\n")
    else:
        for key, value in wanted.items():
            if made.get(key) != value:
                raise ConfigError(
                    f"{start.folder}: the policy there has {key} {made.get(key)}, and {value} is asked for",
                    f"name another folder, or leave --{key} at {made.get(key)}",
                )
        say(f"The policy of {start.folder} is used again.")
    _convert(folder, {**wanted, "start": str(start.folder)})


def _convert(folder: RehearsalFolder, origin: dict[str, Any]) -> None:
    """Leaves the policy in ``folder.policy``, where it is not, and beside it, once it is whole, what it was made of.

    Raises:
        ConfigError: the policy there was made of something else, which slime's checkpoints in the folder go on from.
    """
    noted = folder.root / _ORIGIN
    if noted.exists():
        if (found := _read(noted)) != origin:
            differs = next(key for key, value in origin.items() if found.get(key) != value)
            raise ConfigError(
                f"{folder.root}: was rehearsed with {differs} {found.get(differs)}, and {origin[differs]} is asked for",
                "name another folder with --output, or remove this one",
            )
        return
    shutil.rmtree(folder.policy, ignore_errors=True)
    for_megatron(folder.start.cold_start_model, folder.policy)
    write_text(noted, json.dumps(origin) + "\n")


def _made(start: Artifacts) -> dict[str, Any] | None:
    """What is known of the start in a folder: of an earlier rehearsal's, or of a whole quickstart."""
    for path in (start.folder / _MADE, start.summary):
        if path.exists() and start.cold_start_model.exists():
            return _read(path)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is damaged, it holds no JSON object", f"remove {path.parent} and begin again")
    return found


def start_of(folder: Path, other: Path | None) -> RehearsalFolder:
    """The layout of a rehearsal in ``folder``, which starts from ``other``, a quickstart's folder, if one is named.

    Raises:
        ConfigError: ``other`` holds no policy of a quickstart.
    """
    start = Artifacts(other or folder / "start")
    if other is not None and _made(start) is None:
        raise ConfigError(f"--quickstart {other}: no quickstart was finished there", "name the folder of one")
    return RehearsalFolder(folder, start)
