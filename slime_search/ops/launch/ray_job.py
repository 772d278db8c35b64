"""``python -m slime_search.ops.launch.ray_job COMMAND …``: a command as a job of the Ray cluster that runs already.

``training.sh`` starts the training so where RAY_ADDRESS is set. Its output is printed, its exit code is this process's,
and the first SIGINT, SIGTERM or SIGHUP stops the job and waits until it has ended; the second one waits no longer.

RAY_ADDRESS is ``auto`` or ``host:port``, as ``ray status`` shows it and ``serve-retriever --ray_address`` takes it, or
``http://host:8265``, where the dashboard is.
"""

import asyncio
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from slime_search.errors import ConfigError, ServiceUnavailable
from slime_search.ops.launch import job_environment

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 1.0
_ATTEMPTS = 20
_UNANSWERED = 60
"""So many polls in a row may fail before the cluster is given up."""
_SECRETS = "slime_search_job_secrets"
"""The Python package, uploaded beside the job, that holds what Ray must not list."""
_STOP_MARGIN_S = 5


def check_address(address: str) -> None:
    """Whether RAY_ADDRESS names a cluster to which a job can be submitted. Raises ConfigError."""
    if address == "auto" or re.fullmatch(r"https?://[^/]+/?|(\[[^]/]+\]|[^:/\s]+):\d+", address):
        return
    raise ConfigError(
        f"RAY_ADDRESS: {address!r} is not an address of a Ray cluster",
        "write auto, host:port as `ray status` shows it, or http://host:8265, where its dashboard is; without it "
        "training starts a Ray of its own",
    )


class RayJob:
    """A command, submitted to a cluster.

    Args:
        address: a cluster's, checked.
        command: program and arguments. slime-search has to be importable on the cluster's machines.

    Raises:
        ServiceUnavailable: no cluster answers there, or it did not take the job.
    """

    def __init__(self, address: str, command: Sequence[str]) -> None:
        from ray.job_submission import JobSubmissionClient

        self.id = f"slime-search-{uuid4().hex[:12]}"
        self._address = address
        self._command = command
        self._environment = dict(os.environ)
        _ask_directly(address)
        try:
            self._client = JobSubmissionClient(address)
        except (OSError, RuntimeError, ValueError) as error:
            raise ServiceUnavailable("Ray", address, f"no cluster answers ({error})") from None

    async def run(self) -> int:
        """The command's exit code; 128 + n where signal n stopped it."""
        signals: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, signals.put_nowait, number)
        await asyncio.to_thread(self._submit)
        printing = asyncio.create_task(self._print())
        ending = asyncio.create_task(self._ended())
        first = await _first(ending, signals)
        if first is not None:
            _say(f"{signal.Signals(first).name}: stopping job {self.id}; a second signal waits no longer")
            await asyncio.to_thread(self._client.stop_job, self.id)
            if (second := await _first(ending, signals)) is not None:
                ending.cancel()
                printing.cancel()
                _say(f"job {self.id} may still be running: ray job status {self.id}")
                return 128 + second
            _say(f"job {self.id} has ended")
        # The last lines come after the status.
        with suppress(TimeoutError):
            await asyncio.wait_for(printing, 10)
        return 128 + first if first is not None else await ending

    def _submit(self) -> None:
        plain = job_environment.plain(self._environment)
        stop_s = float(self._environment.get("STOP_TIMEOUT") or 30)
        plain |= {
            job_environment.HOOK: f"{job_environment.__name__}.{job_environment.runtime_env.__name__}",
            # Ray signals every process of the job, and kills what is left after this time.
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": str(max(1, int(stop_s - _STOP_MARGIN_S))),
        }
        with tempfile.TemporaryDirectory() as folder:
            modules = _as_package(job_environment.secrets(self._environment), Path(folder))
            entrypoint = shlex.join(["python3", "-m", __spec__.name, "--in-job", *self._command])
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._client.submit_job(
                        submission_id=self.id,
                        entrypoint=entrypoint,
                        runtime_env={"env_vars": plain, **({"py_modules": modules} if modules else {})},
                    )
                    break
                except (OSError, RuntimeError) as error:
                    # A head that has just started has no process yet that could run it.
                    if attempt == _ATTEMPTS:
                        raise ServiceUnavailable("Ray", self._address, f"the job was not taken ({error})") from None
                    time.sleep(_POLL_S)
        _say(f"job {self.id} submitted to Ray at {self._address}")

    async def _print(self) -> None:
        # Where the connection is lost, the job goes on and its log is on the dashboard.
        with suppress(Exception):
            async for lines in self._client.tail_job_logs(self.id):
                sys.stdout.write(lines)
                sys.stdout.flush()

    async def _ended(self) -> int:
        """Waits for the job's end; its exit code."""
        unanswered = 0
        while True:
            try:
                info = await asyncio.to_thread(self._client.get_job_info, self.id)
                unanswered = 0
                if info.status.is_terminal():
                    return _code(info)
            except (OSError, RuntimeError) as error:
                unanswered += 1
                if unanswered == _UNANSWERED:
                    reason = f"no longer answers about job {self.id} ({error})"
                    raise ServiceUnavailable("Ray", self._address, reason) from None
            await asyncio.sleep(_POLL_S)


def _code(info: Any) -> int:
    if info.status == "SUCCEEDED":
        return 0
    if info.driver_exit_code:
        return int(info.driver_exit_code) % 256
    _say(f"the job did not run: {info.message}")
    return 1


async def _first(ending: "asyncio.Task[int]", signals: "asyncio.Queue[int]") -> int | None:
    """The next signal; None where the job ends before it."""
    waiting = asyncio.ensure_future(signals.get())
    await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
    if ending.done():
        waiting.cancel()
        return None
    return waiting.result()


def _ask_directly(address: str) -> None:
    """Keeps the environment's proxy out of what Ray's client asks the cluster."""
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), host, "localhost", "127.0.0.1", "::1"]))


def _as_package(variables: Mapping[str, str], folder: Path) -> list[str]:
    """Writes a package that holds ``variables``; none where there are none."""
    if not variables:
        return []
    package = folder / _SECRETS
    package.mkdir(mode=0o700)
    (package / "__init__.py").write_text(f"VARIABLES = {dict(variables)!r}\n")
    return [str(package)]


def _become(command: list[str]) -> None:
    """In the job: takes the uploaded variables, and becomes the command."""
    with suppress(ImportError):
        os.environ.update(__import__(_SECRETS).VARIABLES)
    os.execvp(command[0], command)


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def main() -> None:
    command = sys.argv[1:]
    if command[:1] == ["--in-job"]:
        _become(command[1:])
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        check_address(address)
        if command == ["--check"]:
            return
        sys.exit(asyncio.run(RayJob(address, command).run()))
    except ImportError:
        _say('RAY_ADDRESS: submitting a job needs Ray here too: pip install "ray[default]"')
    except (ConfigError, ServiceUnavailable) as error:
        _say(str(error))
    sys.exit(2)


if __name__ == "__main__":
    main()
