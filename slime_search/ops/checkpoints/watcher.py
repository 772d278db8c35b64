"""Looks after a training's checkpoints while it runs: seals, pushes, deletes."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from slime_search.errors import DataError, RefusedRequest, TransientFault
from slime_search.ops.checkpoints.folder import CheckpointFolder
from slime_search.ops.checkpoints.hub import HubRepo
from slime_search.ops.checkpoints.manifest import Manifest

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 600.0


class Pusher:
    """Pushes one checkpoint at a time in the background, always the newest there is.

    After a passing fault it waits ``retry_s``, twice as long after each further one, ten minutes at most. Once the Hub
    has refused a push none is tried again.
    """

    def __init__(self, hub: HubRepo, folder: CheckpointFolder, *, keep: int, retry_s: float) -> None:
        self._hub, self._folder, self._keep, self._retry_s = hub, folder, keep, retry_s
        self._executor = ThreadPoolExecutor(1, "push")
        self._under_way: tuple[int, Future[None]] | None = None
        self._failures = 0
        self._not_before = 0.0
        self.pushed: int | None = None
        """The newest checkpoint that is on the Hub."""
        self.refused = False

    @property
    def busy_with(self) -> int | None:
        """The checkpoint whose files are being read."""
        return self._under_way[0] if self._under_way else None

    def offer(self, manifest: Manifest) -> None:
        """Starts to push a checkpoint, unless it is there, another is under way, or it is too early to try again."""
        self.collect()
        done = self.pushed is not None and manifest.iteration <= self.pushed
        if self.refused or done or self._under_way or time.monotonic() < self._not_before:
            return
        logger.info("pushing checkpoint %d", manifest.iteration)
        future = self._executor.submit(self._hub.push, self._folder, manifest, keep=self._keep)
        self._under_way = manifest.iteration, future

    def collect(self) -> None:
        """Notes how the push under way ended, if it did."""
        if self._under_way is None or not self._under_way[1].done():
            return
        (iteration, future), self._under_way = self._under_way, None
        try:
            future.result()
        except TransientFault as fault:
            wait_s = min(self._retry_s * 2**self._failures, LONGEST_WAIT_S)
            self._failures += 1
            self._not_before = time.monotonic() + wait_s
            logger.warning("checkpoint %d was not pushed: %s; next attempt in %.0f s", iteration, fault, wait_s)
        except RefusedRequest as refusal:
            self.refused = True
            logger.error("checkpoint %d was not pushed, and none will be: %s", iteration, refusal)
        else:
            self.pushed, self._failures = iteration, 0
            logger.info("checkpoint %d is on the Hub", iteration)

    def close(self) -> None:
        """Leaves a push that is under way behind: the Hub has it whole or not at all."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Watcher:
    """Args:
    keep: valid checkpoints that stay in the folder and on the Hub.
    """

    def __init__(self, folder: CheckpointFolder, pusher: Pusher | None, *, keep: int) -> None:
        self._folder, self._pusher, self._keep = folder, pusher, keep
        self._newest: Manifest | None = None

    def step(self) -> None:
        """Does what there is to do now; only a push goes on afterwards."""
        try:
            self._newest = self._folder.seal_finished() or self._newest
        except DataError as error:
            logger.info("not sealed yet: %s", error)
        held = []
        if self._pusher is not None:
            if self._newest is not None:
                self._pusher.offer(self._newest)
            self._pusher.collect()
            held = [i for i in (self._pusher.busy_with,) if i is not None]
        if gone := self._folder.prune(self._keep, held):
            logger.info("deleted checkpoints %s", ", ".join(map(str, gone)))

    def run(self, ended: Callable[[], bool], stop: threading.Event, *, poll_s: float, final_s: float) -> bool:
        """Steps until ``ended`` says that the training has, or ``stop``; then gives the last push ``final_s`` seconds.

        Returns:
            Whether everything is as it should be: the newest checkpoint is on the Hub, if there is one.
        """
        while not stop.is_set() and not ended():
            self.step()
            stop.wait(poll_s)
        deadline = time.monotonic() + final_s
        self.step()
        while self._is_owing() and time.monotonic() < deadline:
            time.sleep(min(poll_s, 0.5))
            self.step()
        if self._pusher is None:
            return True
        self._pusher.close()
        if self._is_owing() or self._pusher.refused:
            assert self._newest is not None
            logger.error("checkpoint %d is not on the Hub; it is in %s", self._newest.iteration, self._folder.root)
            return False
        return True

    def _is_owing(self) -> bool:
        pusher = self._pusher
        if pusher is None or self._newest is None or pusher.refused:
            return False
        return pusher.pushed is None or pusher.pushed < self._newest.iteration
