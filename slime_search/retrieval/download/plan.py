"""What there is to do in a folder, and the room that it takes."""

import asyncio
import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal
from rich.progress import Progress

from slime_search.retrieval.download.blocks import BLOCK_BYTES
from slime_search.retrieval.download.hub import Part, Published, list_parts
from slime_search.retrieval.download.joining import OnBytes, check, join
from slime_search.retrieval.download.store import partial_of, publish
from slime_search.retrieval.download.unpacking import UNPACKED_RATIO, is_tar, unpack
from slime_search.retrieval.errors import DownloadError


class Step(NamedTuple):
    """One file that is to be had. Sizes are bytes."""

    target: Path
    """Its final name."""
    parts: Sequence[Part]
    """What it is joined from; empty where ``whole`` is there."""
    whole: Path
    """What the parts are joined to."""
    packed: bool
    """Whether ``target`` has to be unpacked from ``whole``."""

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def present(self) -> int:
        """How much of what is joined lies in the folder already."""
        return min(self.size, self._held + sum(part.size for part in self._local))

    @property
    def _held(self) -> int:
        return self.whole.stat().st_size if self.whole.exists() else 0

    @property
    def _local(self) -> list[Part]:
        return [part for part in self.parts if self.whole.with_name(part.name).exists()]

    def room(self) -> Iterator[int]:
        """How many bytes more or less are in use after each of its stages."""
        done, end = self._held, 0
        for part in self.parts:
            start, end = end, end + part.size
            local = part in self._local
            if local and not (done or start):
                # It is renamed.
                continue
            yield max(0, end - max(start, done))
            if local:
                yield -part.size
        if self.packed:
            yield self.size * UNPACKED_RATIO if self.parts else self.whole.stat().st_size
            yield -self.size


def index_step(published: Published, folder: Path) -> Step | None:
    """What an index takes; None where it is there.

    Raises:
        DownloadError: another file has its name, or the Hub can't be asked.
    """
    target = folder / published.target
    parts = list_parts(published)
    if not target.exists():
        return Step(target, parts, partial_of(target), packed=False)
    size = sum(part.size for part in parts)
    if target.stat().st_size != size:
        raise DownloadError(
            f"{target}: has {target.stat().st_size:,} bytes, the published one {size:,}; move it away and run again"
        )
    return None


def corpus_step(published: Published, folder: Path) -> Step | None:
    """What the corpus takes; None where it is there.

    Raises:
        DownloadError: the Hub can't be asked.
    """
    archive = folder / published.target
    target, whole = archive.with_suffix(""), partial_of(archive)
    # An unfinished archive beside the target was not deleted after all; doing it again is what a kill there costs.
    if not target.exists() or whole.exists():
        return Step(target, list_parts(published), whole, packed=True)
    return Step(target, (), target, packed=True) if is_tar(target) else None


def check_room(steps: Sequence[Step], folder: Path) -> tuple[int, int]:
    """The bytes that ``steps``, one after the other, need at most, and those that are free.

    Raises:
        DownloadError: there are too few.
    """
    used = needed = 0
    for step in steps:
        for change in step.room():
            used += change
            needed = max(needed, used)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{folder}: {decimal(needed)} are needed and {decimal(free)} are free; free {decimal(needed - free)} or "
            "name a --save_path on another disk"
        )
    return needed, free


def carry_out(steps: Sequence[Step], progress: Progress, block_bytes: int = BLOCK_BYTES) -> None:
    """Does one step after the other. It may be killed at any moment: a new plan goes on from there.

    Raises:
        DownloadError: a part can't be had or is damaged, or the disk is full or broken.
    """
    try:
        for step in steps:
            _carry_out(step, progress, block_bytes)
    except OSError as error:
        if error.errno is None:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "look after that"
        path = error.filename or steps[0].target.parent
        raise DownloadError(f"{path}: {error.strerror}; {fix} and run again") from error


def _carry_out(step: Step, progress: Progress, block_bytes: int) -> None:
    def bar(doing: str, total: int) -> OnBytes:
        task = progress.add_task(f"{doing} {step.target.name}", total=total)
        return lambda count: progress.advance(task, count)

    if step.parts:
        asyncio.run(join(step.parts, step.whole, bar("downloading", step.size), block_bytes))
        check(step.parts, step.whole, bar("checking", step.size))
    if step.packed:
        unpack(step.whole, step.target, bar("unpacking", step.whole.stat().st_size))
    else:
        publish(step.target)
