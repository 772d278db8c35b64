"""Recognises a large file without reading all of it."""

import hashlib
from pathlib import Path

_SPOTS = 64
_SPOT_BYTES = 4_096


def stamp_of(path: Path) -> str:
    """The file's size, and a digest of 64 spots from its beginning to its end. Raises OSError."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        for spot in range(_SPOTS):
            file.seek(max(0, size - _SPOT_BYTES) * spot // (_SPOTS - 1))
            digest.update(file.read(_SPOT_BYTES))
    return f"{size:,} bytes, {digest.hexdigest()}"
