"""Carries a plan out, with progress bars."""

import asyncio
import errno
from collections.abc import Sequence

from rich.progress import Progress

from slime_search.retrieval.download.blocks import BLOCK_BYTES
from slime_search.retrieval.download.errors import DownloadError
from slime_search.retrieval.download.joining import OnBytes, check, join
from slime_search.retrieval.download.plan import Step
from slime_search.retrieval.download.store import publish
from slime_search.retrieval.download.unpacking import unpack


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
        place = error.filename or steps[0].target.parent
        raise DownloadError(f"{place}: {error.strerror}; {fix} and run again") from error


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
