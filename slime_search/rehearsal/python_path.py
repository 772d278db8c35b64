"""What slime's and SGLang's Pythons find of this package: itself, and nothing else of its environment."""

import os
from collections.abc import Iterable
from pathlib import Path

import slime_search
from slime_search.rehearsal import cpu


def python_path(folder: Path, more: Iterable[Path] = ()) -> str:
    """A PYTHONPATH with the stand-ins of ``cpu/path`` and this package, which ``folder`` gets a link to.

    The folder that the package lies in is left out: installed, that is one with all packages of another Python.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link, package = folder / slime_search.__name__, Path(slime_search.__file__).parent
    if not link.is_symlink() or link.resolve() != package.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(package, target_is_directory=True)
    found = [Path(cpu.__file__).parent / "path", folder, *more]
    return os.pathsep.join(str(path.absolute()) for path in found)
