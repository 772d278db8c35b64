"""From where a training goes on."""

import logging
from typing import NamedTuple

from slime_search.errors import DataError
from slime_search.ops.checkpoints.folder import TRACKER, CheckpointFolder
from slime_search.ops.checkpoints.hub import HubRepo

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    iteration: int
    origin: str
    """"folder" or "Hub"."""


def prepare_resume(folder: CheckpointFolder, hub: HubRepo | None, *, thorough: bool = False) -> Found | None:
    """Makes slime load the newest valid checkpoint, fetched from the Hub if it is newer there; None: there is none.

    A checkpoint that slime finished and nobody sealed is sealed first. One that is not whole is never pointed at.

    Raises:
        TransientFault, RefusedRequest: the Hub could not be asked, so that it is not known what is the newest.
        DataError: slime would load a checkpoint that is not whole, and there is no other.
    """
    try:
        folder.seal_finished()
    except DataError as error:
        logger.warning("%s", error)
    local = next((manifest.iteration for manifest in folder.valid(thorough=thorough)), None)
    for iteration in hub.iterations() if hub else ():
        if local is not None and iteration <= local:
            break
        try:
            assert hub is not None
            hub.fetch(iteration, folder)
        except DataError as error:
            logger.warning("%s", error)
            continue
        folder.point_at(iteration)
        return Found(iteration, "Hub")
    if local is None and (tracked := folder.tracked()) is not None:
        raise DataError(
            f"{folder.root}: checkpoint {tracked} was not saved completely or has changed, and there is no other; to "
            f"start anew, delete {folder.root / TRACKER}"
        )
    folder.point_at(local)
    return None if local is None else Found(local, "folder")
