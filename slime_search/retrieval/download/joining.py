"""Writes the parts of a file one behind the other into that file.

The only state is the size of that file: what it holds is a beginning of the whole, so a download that was killed goes
on at its end. A part that lies in the folder already is taken from there: the first is renamed, so that the join needs
room for one further part at most, and each is deleted once it is safely in the whole.
"""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

from slime_search.retrieval.download.blocks import BLOCK_BYTES, read_blocks
from slime_search.retrieval.download.hub import Part, request_headers
from slime_search.retrieval.errors import DownloadError

_HASHED_BYTES = 4 << 20
OnBytes = Callable[[int], object]
"""Told how many more bytes are done."""


async def join(parts: Sequence[Part], whole: Path, on_bytes: OnBytes, block_bytes: int = BLOCK_BYTES) -> None:
    """Appends to ``whole`` what it lacks of ``parts``; ``on_bytes`` is first told what it holds already.

    Raises:
        DownloadError: a part can't be had, or the one that lies in the folder has another size.
    """
    _start(parts[0], whole)
    with whole.open("ab") as file:
        on_bytes(os.fstat(file.fileno()).st_size)
        end = 0
        for part in parts:
            start, end = end, end + part.size
            local = _local(part, whole.parent)
            done = os.fstat(file.fileno()).st_size
            if done < end:
                offset = done - start
                source = _file_blocks(local, offset, block_bytes) if local else _hub_blocks(part, offset, block_bytes)
                async with aclosing(source) as blocks:
                    async for block in blocks:
                        file.write(block)
                        file.flush()
                        on_bytes(len(block))
            if local:
                os.fsync(file.fileno())
                local.unlink()


def check(parts: Sequence[Part], whole: Path, on_bytes: OnBytes) -> None:
    """Compares ``whole`` with the checksums of its parts.

    Raises:
        DownloadError: it differs; it is cut where the part that differs begins, so that another run repairs it.
    """
    with whole.open("r+b") as file:
        start = 0
        for part in parts:
            if _sha256(file, part.size, on_bytes) != part.sha256:
                file.truncate(start)
                raise DownloadError(
                    f"{whole}: {part.name} arrived damaged (its SHA-256 is not the Hub's); it was thrown away. Run "
                    "the same command again; if that says the same, look at the disk or try another HF_ENDPOINT"
                )
            start += part.size
        if extra := file.read(1):
            raise DownloadError(f"{whole}: more follows its last part ({extra!r}…); delete it and run again")
        os.fsync(file.fileno())


def _start(first: Part, whole: Path) -> None:
    local = _local(first, whole.parent)
    if local and (not whole.exists() or whole.stat().st_size == 0):
        local.rename(whole)


def _local(part: Part, folder: Path) -> Path | None:
    path = folder / part.name
    if not path.exists():
        return None
    if path.stat().st_size != part.size:
        raise DownloadError(
            f"{path}: has {path.stat().st_size:,} bytes, the Hub's has {part.size:,}; delete it or move it away"
        )
    return path


async def _hub_blocks(part: Part, offset: int, block_bytes: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(read_blocks(part.url, request_headers(), offset, part.size, block_bytes)) as blocks:
        async for block in blocks:
            yield block


async def _file_blocks(path: Path, offset: int, block_bytes: int) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(block_bytes):
            yield block


def _sha256(file: BinaryIO, size: int, on_bytes: OnBytes) -> str:
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, _HASHED_BYTES))):
        digest.update(block)
        size -= len(block)
        on_bytes(len(block))
    return digest.hexdigest()
