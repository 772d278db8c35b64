"""The folder of a store on its way: one builder at a time, and only what the same command began is carried on."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from slime_search.files import write_text
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.vectors.manifest import Manifest, Source

_BUILDING = "building"
_LOCK = ".lock"


class Folder(NamedTuple):
    store: Path

    @property
    def building(self) -> Path:
        """What is needed only until the store is complete."""
        return self.store / _BUILDING

    def finish(self, manifest: Manifest) -> None:
        """Makes the store usable."""
        manifest.write(self.store)
        shutil.rmtree(self.building)


@contextmanager
def opened(store: Path, source: Source) -> Iterator[Folder]:
    """A new folder, or one in which a build from the same ``source`` was interrupted or has ended.

    Raises:
        VectorIndexError: the folder is used by another build, holds one from another source, or other files.
    """
    folder = Folder(store)
    store.mkdir(parents=True, exist_ok=True)
    begun = folder.building / "source.json"
    others = any(entry.name != _LOCK for entry in store.iterdir())
    if others and not Manifest.exists(store) and not folder.building.exists():
        raise VectorIndexError(f"{store}: holds other files; name an empty or a new folder with --output")
    with (store / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VectorIndexError(f"{store}: another process is building it; wait for its end") from None
        if Manifest.exists(store):
            _refuse_other(store, Manifest.read(store).source, source)
        elif begun.exists():
            _refuse_other(store, Source.model_validate_json(begun.read_bytes()), source)
        else:
            folder.building.mkdir(exist_ok=True)
            write_text(begun, source.model_dump_json())
        yield folder


def _refuse_other(store: Path, old: Source, new: Source) -> None:
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    changed = [f"{name} was {before[name]!r} and is {now[name]!r}" for name in before if before[name] != now[name]]
    if changed:
        raise VectorIndexError(
            f"{store}: was begun from something else ({'; '.join(changed)}); "
            "name another folder with --output, or delete this one to build it anew"
        )
