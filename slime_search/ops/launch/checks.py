"""What has to be there before anything is started."""

import errno
import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from slime_search.errors import ConfigError
from slime_search.ops.launch import tmux
from slime_search.ops.launch.ray_job import check_address
from slime_search.ops.launch.settings import LaunchSettings, host_of, port_of


class Problem(NamedTuple):
    """Something that is missing, and the fix."""

    found: str
    fix: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}"


def problems(settings: LaunchSettings, *, own_script: bool) -> Iterator[Problem]:
    """Everything that stands in the way, not only the first.

    Args:
        settings: what is to be run.
        own_script: whether the training is this package's, which needs a GPU.
    """
    if not tmux.is_installed():
        yield Problem("tmux is not installed", "apt-get install tmux")
    script = settings.train_script
    if script is None:
        yield Problem(
            "TRAIN_SCRIPT: not set", "name the script that trains: TRAIN_SCRIPT=examples/search_r1/run_qwen2.5_3B.sh"
        )
    elif not script.is_file():
        yield Problem(f"TRAIN_SCRIPT: {script} is not a file", "name the script that trains")
    elif not os.access(script, os.X_OK):
        yield Problem(f"TRAIN_SCRIPT: {script} is not executable", f"chmod +x {script}")
    yield from problem_of_ray_address(fatal=own_script)
    if settings.is_local:
        yield from problems_of_retriever(settings)
    if shutil.which("nvidia-smi") is None:
        yield Problem("no GPU: nvidia-smi is not here", "train on a machine with one", fatal=own_script)


def problems_of_retriever(settings: LaunchSettings) -> Iterator[Problem]:
    """What stands in the way of a retrieval server on this machine."""
    if settings.needs_index:
        yield from missing_modules("retrieval", "torch", "faiss", "fastapi")
    else:
        yield from missing_modules("bm25", "fastapi", "bm25s", "Stemmer")
    if lacking := _lacking("CORPUS_PATH", settings.corpus_path):
        yield Problem(lacking, settings.how_to_get(settings.corpus_path))
    if settings.needs_index and (lacking := _lacking("INDEX_PATH", settings.index_path)):
        yield Problem(lacking, f"{settings.how_to_get(settings.index_path)}, or set RETRIEVER_NAME=bm25")
    parts = urlsplit(settings.retrieval_server_url)
    if parts.scheme != "http" or parts.path:
        yield Problem(
            f"RETRIEVAL_SERVER_URL: {settings.retrieval_server_url}: the server that is started here speaks plain HTTP "
            "and answers at /retrieve",
            f"write http://{parts.netloc}, or start your own server there first",
        )
    yield from taken_port(settings.retrieval_server_url, "RETRIEVAL_SERVER_URL")


def _lacking(variable: str, path: Path | None) -> str:
    """What is wrong with a variable that names a file or folder; empty where it is there."""
    if path is None:
        return f"{variable}: not set"
    return "" if path.exists() else f"{variable}: {path} does not exist"


def problem_of_ray_address(*, fatal: bool) -> Iterator[Problem]:
    """Whether the training script could submit its job; ``fatal`` where the script is this package's."""
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            check_address(address)
        except ConfigError as error:
            yield Problem(error.found, error.fix, fatal=fatal)


def missing_modules(extra: str, *names: str) -> Iterator[Problem]:
    """What is not installed of an extra of this package."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        yield Problem(f"{', '.join(missing)} not installed", f"pip install 'slime-search[{extra}]'")


def taken_port(url: str, variable: str, *, is_port: bool = False) -> Iterator[Problem]:
    """Whether a server can't be started where its URL says; ``variable`` names the URL, or its port alone."""
    host, port = host_of(url), port_of(url)
    other = str(port + 1) if is_port else url.replace(f":{port}", f":{port + 1}")
    try:
        listen(host, port)
    except socket.gaierror as error:
        yield Problem(
            f"{variable}: {url}: {host} has no address ({error.strerror})", "name this machine by another name"
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield Problem(f"port {port} is taken", f"set {variable}={other}, or end what listens there")
        else:
            yield Problem(f"{variable}: {url}: can't listen there ({error.strerror})", "name another host or port")


def listen(host: str, port: int) -> None:
    """Listens for a moment, as the server would. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port), family=family).close()
