"""Checkpoints in a repository of the Hub, laid out as in the folder.

A push is one commit with all files and the manifest, so it is there whole or not at all; files that an interrupted push
has uploaded already are not uploaded again. A fetch checks every file against the manifest before any takes its place.
"""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn, cast

from slime_search.errors import ConfigError, DataError, RefusedRequest, TransientFault
from slime_search.files import write_text
from slime_search.ops.checkpoints.folder import MANIFESTS, CheckpointFolder, folder_name, manifest_name, position_name
from slime_search.ops.checkpoints.manifest import Manifest, flaw_of, with_times

logger = logging.getLogger(__name__)

TOKEN = "HF_TOKEN"
INCOMING = ".incoming"
_MANIFEST = re.compile(rf"{MANIFESTS}/iter_(\d{{7}})\.json")
_PASSING = (408, 409, 412, 423, 425, 429)
"""Answers in the 400s that another attempt may not get: locks, conflicting commits, too many requests."""


class HubRepo:
    """A model repository. HF_ENDPOINT is honoured; the token is read from HF_TOKEN and nowhere else.

    Args:
        name: ``owner/name``.
    """

    def __init__(self, name: str) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise ConfigError("huggingface_hub not installed; run pip install 'slime-search[data]'") from None
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise ConfigError(f"--hub {name}: write owner/name")
        self.name = name
        self._has_token = bool(os.environ.get(TOKEN))
        self._api = HfApi(token=os.environ.get(TOKEN) or False)

    def iterations(self) -> list[int]:
        """The checkpoints that are there whole, the newest first; none where there is no such repository.

        Raises:
            TransientFault: the Hub can't be asked now.
            RefusedRequest: the Hub won't tell.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            files = self._api.list_repo_files(self.name)
        except RepositoryNotFoundError as error:
            if _status_of(error) != 404:  # a private one is not told from none without a token
                _raise(self.name, error)
            return []
        except _errors() as error:
            _raise(self.name, error)
        return sorted((int(m[1]) for m in map(_MANIFEST.fullmatch, files) if m), reverse=True)

    def push(self, folder: CheckpointFolder, manifest: Manifest, *, keep: int) -> None:
        """Commits a checkpoint, and takes out all but the newest ``keep``. A missing repository is made, private.

        Raises:
            TransientFault: another attempt may succeed.
            RefusedRequest: none will, before somebody mends what the message names.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        if not self._has_token:
            raise RefusedRequest(f"{TOKEN}: not set; export a token that may write to {self.name}")
        iteration = manifest.iteration
        try:
            self._api.create_repo(self.name, private=True, exist_ok=True)
            there = self.iterations()
            stay = sorted({*there, iteration}, reverse=True)[:keep]
            operations: list[Any] = [
                CommitOperationAdd(name, str(folder.root / name))
                for name in (*manifest.files, manifest_name(iteration))
            ]
            files = self._api.list_repo_files(self.name)
            for old in set(there) - {*stay, iteration}:
                own = (f"{folder_name(old)}/", f"hf_{old}/")
                named = (position_name(old), manifest_name(old))
                operations += [CommitOperationDelete(f) for f in files if f.startswith(own) or f in named]
            self._api.create_commit(self.name, operations, commit_message=f"Checkpoint {iteration}")
        except _errors() as error:
            _raise(self.name, error)

    def fetch(self, iteration: int, folder: CheckpointFolder) -> Manifest:
        """Downloads a checkpoint into the folder, where it is valid afterwards.

        Raises:
            TransientFault, RefusedRequest: as above; what was downloaded is kept for the next attempt.
            DataError: what the Hub has is not what its manifest says.
        """
        incoming = folder.root / INCOMING / folder_name(iteration)
        try:
            revision = self._api.repo_info(self.name).sha
            path = self._api.hf_hub_download(self.name, manifest_name(iteration), revision=revision, local_dir=incoming)
        except _errors() as error:
            _raise(self.name, error)
        manifest = Manifest.from_json(Path(path).read_text())
        try:
            for name in manifest.files:
                self._api.hf_hub_download(self.name, name, revision=revision, local_dir=incoming)
        except _errors() as error:
            _raise(self.name, error)
        if flaw := flaw_of(incoming, manifest, thorough=True):
            shutil.rmtree(incoming)
            raise DataError(f"{self.name}, checkpoint {iteration}: {flaw}; it can't be resumed from")
        return _move_in(incoming, manifest, folder)


def _move_in(incoming: Path, manifest: Manifest, folder: CheckpointFolder) -> Manifest:
    """Puts checked files in place: the position after all others, as slime does, and then the manifest."""
    folder.delete(manifest.iteration)
    for name in sorted(manifest.files, key=position_name(manifest.iteration).__eq__):
        target = folder.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (incoming / name).replace(target)
    moved = with_times(folder.root, manifest)
    write_text(folder.root / manifest_name(moved.iteration), moved.to_json())
    shutil.rmtree(incoming.parent)
    return moved


def _errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises when the Hub or the way there fails. Its HTTP library differs between versions."""
    from huggingface_hub.errors import HfHubHTTPError

    # Uploads run in threads, whose failures come back as RuntimeError; malformed answers are ValueError.
    bases = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    return (*bases, OSError, RuntimeError, ValueError)


def _raise(repo: str, error: Exception) -> NoReturn:
    status = _status_of(error)
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        hint = f"; does {TOKEN} belong to somebody who may write there?" if status in (401, 403, 404) else ""
        raise RefusedRequest(f"{repo}: {reason}{hint}") from error
    raise TransientFault(f"{repo}: {reason}") from error


def _status_of(error: BaseException | None) -> int | None:
    """The HTTP status in an error or one that it was raised from."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
