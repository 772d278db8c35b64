"""Where the files that belong to a corpus are kept, and that only one process writes them."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from slime_search.files import part_of, publish
from slime_search.retrieval.errors import CorpusError


class KeptFiles(NamedTuple):
    """The files of one corpus in one folder. What is new has a name of its own until it is complete."""

    folder: Path
    stem: str

    @property
    def offsets(self) -> Path:
        return self.folder / f"{self.stem}.offsets.npy"

    @property
    def unpacked(self) -> Path:
        return self.folder / f"{self.stem}.unpacked"

    @property
    def new_offsets(self) -> Path:
        return part_of(self.offsets)

    def publish_offsets(self, file: BinaryIO) -> None:
        """Gives the complete ``new_offsets``, open as ``file``, its final name."""
        file.flush()
        publish(self.new_offsets, self.offsets)


def kept_files_of(path: Path) -> tuple[KeptFiles, KeptFiles]:
    """Beside the corpus, and in the user's cache folder (``$XDG_CACHE_HOME/slime-search``)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slime-search"
    digest = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
    return KeptFiles(path.parent, path.name), KeptFiles(cache, f"{path.name}-{digest}")


@contextmanager
def building(path: Path) -> Iterator[tuple[KeptFiles, BinaryIO]]:
    """The first place that can be written, with an empty ``new_offsets``, for one process at a time.

    What is not published is deleted at the end; what a killed process left is overwritten the next time.

    The lock is on the new file itself. Say that A writes ``wiki.jsonl.offsets.npy.part`` and B waits for its lock. A
    renames the file to ``wiki.jsonl.offsets.npy`` and lets go: B now holds the lock of a file that has another name.
    It sees that, and locks whatever has the name ``….part`` by then, creating it where nothing has.

    Raises:
        CorpusError: neither place can be written.
    """
    kept, file = _lock_first(path)
    with file:
        try:
            file.truncate()
            yield kept, file
        finally:
            if _is_at(file, kept.new_offsets):
                kept.new_offsets.unlink()


def _lock_first(path: Path) -> tuple[KeptFiles, BinaryIO]:
    refusals = []
    for kept in kept_files_of(path):
        try:
            kept.folder.mkdir(parents=True, exist_ok=True)
            return kept, _lock(kept.new_offsets)
        except OSError as error:
            refusals.append(f"{kept.folder}: {error.strerror}")
    raise CorpusError(
        f"{path}: no place to keep its offsets ({'; '.join(refusals)}); set XDG_CACHE_HOME to a folder with room"
    )


def _lock(path: Path) -> BinaryIO:
    """Opens a file, at its beginning, for the one process that may write it."""
    while True:
        # Neither of open's modes creates a file without emptying one that another process is writing.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, path):
            return file
        # The process that held the lock has published the file or deleted it.
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
