"""What was found before: an SQLite file that several processes share, and the calls that are under way."""

import asyncio
import hashlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from slime_search.transport.per_loop import PerLoop

logger = logging.getLogger(__name__)

_BUSY_S = 10.0
_CREATE = "CREATE TABLE IF NOT EXISTS found (key BLOB PRIMARY KEY, expires REAL NOT NULL, value BLOB NOT NULL)"


class DiskCache:
    """Bytes by key, until they expire. Safe between processes on a local disk.

    Args:
        path: the SQLite file; it is made where it is missing.

    Raises:
        OSError, sqlite3.Error: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One thread owns the connection, so no lock is needed and the event loop never waits for the disk.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="google-cache")
        self._path = path
        self._connection = self._thread.submit(self._open).result()

    async def get(self, key: bytes) -> bytes | None:
        return await self._run(self._get, key)

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        await self._run(self._put, key, value, seconds)

    async def _run(self, work: Callable[..., bytes | None], *arguments: Any) -> bytes | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except sqlite3.Error as error:
            # A full disk costs money, not trajectories.
            logger.warning("google.cache_path %s: %s; going on without it", self._path, error)
            return None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_CREATE)
        connection.execute("DELETE FROM found WHERE expires < ?", (time.time(),))
        return connection

    def _get(self, key: bytes) -> bytes | None:
        query = "SELECT value FROM found WHERE key = ? AND expires >= ?"
        row = self._connection.execute(query, (key, time.time())).fetchone()
        return row[0] if row else None

    def _put(self, key: bytes, value: bytes, seconds: float) -> None:
        self._connection.execute("INSERT OR REPLACE INTO found VALUES (?, ?, ?)", (key, time.time() + seconds, value))


class Memory:
    """Makes each call once: what is known comes from the disk, and equal calls at one time share one answer.

    Args:
        cache: None remembers only what is under way.
        seconds: how long an answer is good for.
    """

    def __init__(self, cache: DiskCache | None, *, seconds: float) -> None:
        self._cache = cache
        self._seconds = seconds
        self._under_way: PerLoop[dict[bytes, asyncio.Task[bytes]]] = PerLoop(dict)

    async def recall(
        self, call: Any, make: Callable[[], Awaitable[bytes]], seconds_of: Callable[[bytes], float] | None = None
    ) -> bytes:
        """The answer to ``call``, a JSON value that holds no secret; ``make`` gets it where it is not known.

        What ``make`` raises goes to everyone who waits, and is forgotten. ``seconds_of`` may shorten an answer's life.
        """
        key = hashlib.blake2b(orjson.dumps(call), digest_size=20).digest()
        under_way = self._under_way.get()
        if key not in under_way:
            task = under_way[key] = asyncio.ensure_future(self._find(key, make, seconds_of))
            task.add_done_callback(partial(_forget, under_way, key))
        # Whoever stops waiting does not stop it for the others.
        return await asyncio.shield(under_way[key])

    async def _find(
        self, key: bytes, make: Callable[[], Awaitable[bytes]], seconds_of: Callable[[bytes], float] | None
    ) -> bytes:
        if self._cache and (known := await self._cache.get(key)) is not None:
            return known
        value = await make()
        if self._cache:
            seconds = min(self._seconds, seconds_of(value)) if seconds_of else self._seconds
            await self._cache.put(key, value, seconds)
        return value


def _forget(under_way: dict[bytes, asyncio.Task[bytes]], key: bytes, done: asyncio.Task[bytes]) -> None:
    del under_way[key]
    if not done.cancelled():
        # Nobody may be left to hear of a failure.
        done.exception()
