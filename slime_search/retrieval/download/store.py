"""Names of unfinished files, and the folder that one process at a time fills."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slime_search import files
from slime_search.retrieval.errors import DownloadError


def partial_of(target: Path) -> Path:
    """What ``target`` is called until it is complete."""
    return target.with_name(f"{target.name}.partial")


def publish(target: Path) -> None:
    """Gives the complete file its name, for good."""
    files.publish(partial_of(target), target)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other downloads out of ``folder``, which is made where it is missing.

    Raises:
        DownloadError: another process is at work there, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".download.lock").open("w")
    except OSError as error:
        raise DownloadError(f"{folder}: {error.strerror}; name a --save_path that can be written") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(
                f"{folder}: another download is at work here; wait for it, or name another --save_path"
            ) from None
        yield
