"""A connection to Ray: to a cluster that runs already, or to one that is started for it."""

import contextlib
import ctypes
import importlib.util
import ipaddress
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from slime_search.retrieval.errors import SetupError

_STRUCT_BYTES = 1024
"""More than any system's ``struct sigaction``."""
_CONNECT_S = 5
_END_S = 30


def of_one_machine() -> dict[str, str]:
    """For a new Ray and for those who use it.

    Ray listens on the loopback address alone, answers only who has the token, and reports nothing to its makers.
    """
    return {
        # Off, it means a single machine: on Linux too, in spite of its name.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """What the process does on SIGTERM is the same after the block.

    Ray's core puts a handler of its own in place, which ends the process at once, and Python can change handlers in the
    main thread alone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    action = ctypes.create_string_buffer(_STRUCT_BYTES)
    libc.sigaction(signal.SIGTERM, None, action)
    try:
        yield
    finally:
        libc.sigaction(signal.SIGTERM, action, None)


class RayConnection:
    """Opened when it is made, for the whole process; ``close`` ends a Ray that was started and leaves any other alone.

    Args:
        address: of a running cluster, ``host:port`` or ``auto``; None is what the environment's RAY_ADDRESS says, and
            without it a Ray on this machine alone is started.
        cpus: how many processor shares a started Ray has to give.

    Raises:
        SetupError: Ray is not installed, does not start, or none answers at the address.
    """

    def __init__(self, address: str | None, cpus: int) -> None:
        _check_installed()
        address = address or os.environ.get("RAY_ADDRESS")
        self._head: subprocess.Popen[str] | None = None
        if address is None:
            self._head, address = _start_head(cpus)
        else:
            _check_answers(address)
        try:
            _connect(address)
        except BaseException:
            self._end_head()
            raise

    @property
    def is_own(self) -> bool:
        """Whether Ray was started for this connection."""
        return self._head is not None

    @property
    def has_gpus(self) -> bool:
        """Whether there are any on the cluster."""
        import ray

        return bool(ray.cluster_resources().get("GPU"))

    def check_listens_here(self) -> None:
        """Raises SetupError where a Ray that was started here listens on an address that others can reach."""
        if self._head is None:
            return
        import psutil

        head = psutil.Process(self._head.pid)
        for process in (head, *head.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                for socket_ in process.net_connections("inet"):
                    if socket_.status == psutil.CONN_LISTEN and not _is_loopback(socket_.laddr.ip):
                        raise SetupError(
                            f"replicas: {process.name()}, of the Ray that was started here, listens on "
                            f"{socket_.laddr.ip}, port {socket_.laddr.port}, where other machines reach it, and this "
                            "version of Ray can't be told otherwise; use the version that slime-search was tested "
                            "with, or start a Ray behind a firewall of yours and name it with --ray-address"
                        )

    def close(self) -> None:
        """Leaves Ray."""
        import ray

        ray.shutdown()
        self._end_head()

    def _end_head(self) -> None:
        if self._head is None:
            return
        _stream(self._head.stdin).close()
        try:
            self._head.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._head.kill()
            self._head.wait()


def _is_loopback(address: str) -> bool:
    number = ipaddress.ip_address(address)
    mapped = getattr(number, "ipv4_mapped", None)
    return (mapped or number).is_loopback


def _check_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        raise SetupError("replicas: Ray is not installed; run: pip install 'slime-search[cluster]'")


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "://" in host:
        raise SetupError(
            f"ray_address: {address!r} is not an address of Ray itself",
            "write auto, or host:port as `ray status` shows it, which a training's RAY_ADDRESS may be as well",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None
    if _refuses_token(address):
        raise _refused(address)


def _refuses_token(address: str) -> bool:
    """Ray itself would try for 20 s, and tell of it in its log alone."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.exceptions import AuthenticationError
    except ImportError:  # An older Ray knows no tokens.
        return False
    try:
        GcsClient(address=address)
    except AuthenticationError:
        return True
    except Exception:  # noqa: BLE001 -- Ray's own connecting, which comes next, says what it is
        return False
    return False


def _refused(address: str) -> SetupError:
    sent = "the token that is set here" if os.environ.get("RAY_AUTH_TOKEN") else "who has no token"
    return SetupError(
        f"ray_address: the Ray cluster at {address!r} refuses {sent}; export RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, with the token that it was started with"
    )


def _connect(address: str) -> None:
    # A call that is under way when the connection is closed would start another Ray.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        import ray
        import ray.exceptions
        import ray.serve
    except ImportError as error:
        raise SetupError(
            f"replicas: Ray Serve can't be imported ({error}); run: pip install 'slime-search[cluster]'"
        ) from None
    try:
        with sigterm_kept():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        found = _address_of_auto() if address == "auto" else address
        is_refused = type(error).__name__ == "AuthenticationError" or (found and _refuses_token(found))
        raise _refused(found or address) if is_refused else _no_cluster(address, error) from error


def _address_of_auto() -> str | None:
    """Where the cluster of this machine is, as it has written down itself."""
    try:
        from ray._private.utils import read_ray_address
    except ImportError:
        return None
    address: str | None = read_ray_address()
    return address


def _no_cluster(address: str, error: Exception) -> SetupError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return SetupError(
        f"ray_address: no Ray cluster answers at {address!r} ({reason}); start one there (ray start --head), or leave "
        "the address and RAY_ADDRESS out for one on this machine alone"
    )


def _start_head(cpus: int) -> tuple[subprocess.Popen[str], str]:
    os.environ |= of_one_machine()
    head = subprocess.Popen(
        [sys.executable, "-m", "slime_search.retrieval.cluster.head", str(cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    address = _stream(head.stdout).readline().strip()
    if not address:
        raise SetupError(f"replicas: Ray did not start (code {head.wait()}); what it wrote above says why")
    return head, address


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
