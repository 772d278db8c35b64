"""How files are written: whole or not at all, so that nobody ever reads half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields ``<name>.part`` beside ``path``, to be written in the block, which then gets the name ``path``.

    Until then ``path`` is what it was; afterwards it is the new file, even when the power fails. What the block leaves
    by an exception is deleted; what a kill leaves, the next call writes anew. One process writes a path at a time.

    >>> with written_whole(folder / "scores.npy") as new, new.open("wb") as file:
    ...     np.save(file, scores)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = part_of(path)
    try:
        yield new
        publish(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a small file in UTF-8, as ``written_whole`` does."""
    with written_whole(path) as new:
        new.write_text(text, encoding="utf-8")


def part_of(path: Path) -> Path:
    """What the file is called until it is complete."""
    return path.with_name(f"{path.name}.part")


def publish(new: Path, path: Path) -> None:
    """Gives the complete ``new``, a file of the same file system, the name ``path``, for good."""
    _sync(new)
    new.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until what was written is on the disk; a folder's names count as its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
