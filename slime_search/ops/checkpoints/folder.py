"""The folder that slime saves to, and which of its checkpoints are whole.

Megatron writes ``iter_0000099/`` and then names 99 in ``latest_checkpointed_iteration.txt``, the tracker; slime then
writes the weights for ``--save-hf``, and at last its position in the data set, to
``rollout/global_dataset_state_dict_99.pt``. A checkpoint is finished when the tracker names it and that position is
there. It is then sealed by a manifest, and from then on what counts is that the files are those of the manifest.
"""

import logging
import re
import shutil
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from slime_search.errors import DataError
from slime_search.files import write_text
from slime_search.ops.checkpoints.manifest import Manifest, flaw_of, take, with_times

logger = logging.getLogger(__name__)

TRACKER = "latest_checkpointed_iteration.txt"
MANIFESTS = "manifests"
_PARTS = (
    re.compile(r"iter_(\d{7})"),
    re.compile(r"hf_(\d+)"),
    re.compile(r"rollout/global_dataset_state_dict_(\d+)\.pt"),
    re.compile(rf"{MANIFESTS}/iter_(\d{{7}})\.json"),
)
"""Everything that belongs to one iteration, relative to the folder."""


class CheckpointFolder:
    """slime's ``--save`` folder. The weights of ``--save-hf FOLDER/hf_{rollout_id}`` belong to the checkpoints too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._announced: set[str] = set()

    def tracked(self) -> int | None:
        """The iteration that slime would load; None where there is none, or no number."""
        try:
            text = (self.root / TRACKER).read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def finished(self) -> int | None:
        """The tracked iteration, if slime is done with it."""
        tracked = self.tracked()
        # The position is a zip archive, whose directory is at its end: a file that was cut has none.
        if tracked is None or not zipfile.is_zipfile(self.root / position_name(tracked)):
            return None
        return tracked if (self.root / folder_name(tracked)).is_dir() else None

    def seal(self, iteration: int) -> Manifest:
        """Writes the manifest of a finished checkpoint. Raises DataError where its files change meanwhile."""
        parts = (folder_name(iteration), f"hf_{iteration}")
        files = [path for part in parts for path in sorted((self.root / part).rglob("*")) if path.is_file()]
        names = [path.relative_to(self.root).as_posix() for path in files]
        manifest = take(self.root, iteration, [*names, position_name(iteration)])
        write_text(self.root / manifest_name(iteration), manifest.to_json())
        return manifest

    def seal_finished(self) -> Manifest | None:
        """The manifest of the finished checkpoint, written if there is none yet; None where it is not as it was sealed.

        What was sealed is not sealed again, since nobody could tell a new save from damage. ``point_at`` unseals what
        a resumed training is going to save again.

        Raises:
            DataError: the files change meanwhile.
        """
        iteration = self.finished()
        if iteration is None:
            return None
        known = self.manifest(iteration)
        if known is None:
            logger.info("sealing checkpoint %d", iteration)
            return self.seal(iteration)
        return known if self._flaw(known) is None else None

    def manifest(self, iteration: int) -> Manifest | None:
        """What was sealed; None where nothing readable was."""
        try:
            return Manifest.from_json((self.root / manifest_name(iteration)).read_text())
        except (OSError, DataError):
            return None

    def valid(self, *, thorough: bool = False) -> Iterator[Manifest]:
        """The sealed checkpoints that are as they were sealed, the newest first."""
        for iteration in sorted(self.iterations(), reverse=True):
            manifest = self.manifest(iteration)
            if manifest is not None and self._flaw(manifest, thorough=thorough) is None:
                yield manifest

    def iterations(self) -> set[int]:
        """Every iteration of which anything is there."""
        return {iteration for iteration, _ in self._parts()}

    def prune(self, keep: int, held: Collection[int] = ()) -> list[int]:
        """Deletes what is older than the newest ``keep`` valid checkpoints, unfinished ones included.

        The tracked one stays, and so do those in ``held``. Returns the iterations that were deleted.
        """
        kept = [manifest.iteration for _, manifest in zip(range(keep), self.valid(), strict=False)]
        if len(kept) < keep:
            return []
        stay = {*held, self.tracked()}
        gone = sorted(i for i in self.iterations() if i < min(kept) and i not in stay)
        for iteration in gone:
            self.delete(iteration)
        return gone

    def delete(self, iteration: int) -> None:
        """Deletes everything of an iteration, in an order in which half of it never passes for whole."""
        self._unseal(iteration)
        for found, path in list(self._parts()):
            if found == iteration:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def point_at(self, iteration: int | None) -> None:
        """Makes slime load this checkpoint; None: start anew. What newer ones have left is forgotten.

        The newer ones' weights stay until they are written again.
        """
        if iteration is None:
            (self.root / TRACKER).unlink(missing_ok=True)
        elif self.tracked() != iteration:
            write_text(self.root / TRACKER, str(iteration))
        for found in self.iterations():
            if iteration is None or found > iteration:
                self._unseal(found)

    def _flaw(self, manifest: Manifest, *, thorough: bool = False) -> str | None:
        """As ``flaw_of``; each flaw is logged once. The times of copies are noted, so that they are read once."""
        flaw = flaw_of(self.root, manifest, thorough=thorough)
        if flaw is None:
            present = with_times(self.root, manifest)
            if present != manifest:
                write_text(self.root / manifest_name(manifest.iteration), present.to_json())
        elif flaw not in self._announced:
            self._announced.add(flaw)
            logger.warning("checkpoint %d is not as it was sealed: %s", manifest.iteration, flaw)
        return flaw

    def _unseal(self, iteration: int) -> None:
        """The position goes first, since what has one and no manifest would be sealed where it is tracked."""
        (self.root / position_name(iteration)).unlink(missing_ok=True)
        (self.root / manifest_name(iteration)).unlink(missing_ok=True)

    def _parts(self) -> Iterator[tuple[int, Path]]:
        for folder in (self.root, self.root / "rollout", self.root / MANIFESTS):
            for path in folder.iterdir() if folder.is_dir() else ():
                name = path.relative_to(self.root).as_posix()
                matched = next(filter(None, (part.fullmatch(name) for part in _PARTS)), None)
                if matched:
                    yield int(matched[1]), path


def folder_name(iteration: int) -> str:
    return f"iter_{iteration:07d}"


def position_name(iteration: int) -> str:
    return f"rollout/global_dataset_state_dict_{iteration}.pt"


def manifest_name(iteration: int) -> str:
    return f"{MANIFESTS}/{folder_name(iteration)}.json"
