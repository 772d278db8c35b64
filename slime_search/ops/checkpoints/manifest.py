"""What a checkpoint consists of, written down once it is whole: what has no manifest is not resumed from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from slime_search.errors import DataError


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: bytes, the time of its last change in nanoseconds, and its SHA-256 in hexadecimal."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint's files by their paths in the folder, with slashes."""

    iteration: int
    files: Mapping[str, Entry]

    def to_json(self) -> str:
        files = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        return json.dumps({"iteration": self.iteration, "files": files}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises DataError where ``text`` is no manifest."""
        try:
            record = json.loads(text)
            files = {str(name): Entry(**entry) for name, entry in record["files"].items()}
            made = cls(int(record["iteration"]), files)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"not a manifest: {error!r}") from None
        outside = [name for name in files if name.startswith(("/", "../")) or "/../" in name or "\\" in name]
        if outside or not files:
            raise DataError(f"not a manifest: names {outside[0] if outside else 'no file'}")
        return made


def take(root: Path, iteration: int, names: Iterable[str]) -> Manifest:
    """Reads the files and writes down what is in them.

    Raises:
        DataError: one of them changed meanwhile, or is gone.
    """
    files = {}
    for name in names:
        path = root / name
        try:
            before = path.stat()
            digest = sha256_of(path)
            after = path.stat()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; is it being written or deleted?") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(f"{path}: changed while it was read; the checkpoint is being written")
        files[name] = Entry(after.st_size, after.st_mtime_ns, digest)
    return Manifest(iteration, files)


def flaw_of(root: Path, manifest: Manifest, *, thorough: bool = False) -> str | None:
    """What is wrong with the files in ``root``; None where nothing is.

    A file of the same size and time is taken for the same, unless ``thorough``; one of another time is read.
    """
    for name, entry in manifest.files.items():
        path = root / name
        try:
            found = path.stat()
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found.st_size != entry.size:
            return f"{name}: {found.st_size} bytes, not {entry.size}"
        if (thorough or found.st_mtime_ns != entry.mtime_ns) and sha256_of(path) != entry.sha256:
            return f"{name}: its content changed"
    return None


def with_times(root: Path, manifest: Manifest) -> Manifest:
    """The manifest with the files' present times, for files that were found to be the same."""
    files = {name: replace(e, mtime_ns=(root / name).stat().st_mtime_ns) for name, e in manifest.files.items()}
    return Manifest(manifest.iteration, files)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
