"""slime's train.py as a process that is watched to its end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slime_search.errors import SlimeSearchError
from slime_search.local.services import CPU_ENV
from slime_search.rehearsal.cpu.import_hook import PROCESS, TRAINER
from slime_search.rehearsal.cpu.train import DEVICES, SCRIPT
from slime_search.rehearsal.installation import Installation

_POLL_S = 0.5
_LINES = 20
_LOOPBACK = "localhost,127.0.0.1,::1"


class TrainingFailed(SlimeSearchError):
    """slime's training ended with an error; the message ends with the last lines of its log."""


def training_environment(
    installed: Installation, python_path: str, *, tensorboard: Path, ranks: int, script: str
) -> dict[str, str]:
    """What slime's processes are told, beside what this process knows."""
    paths = [python_path, str(installed.slime_home), str(installed.megatron_home), os.environ.get("PYTHONPATH", "")]
    return {
        **CPU_ENV,
        PROCESS: TRAINER,
        # Ray shares its devices out, one for each rank; the engine's stands beside.
        DEVICES: str(ranks + 1),
        SCRIPT: script,
        # A folder in an argument would be taken as one below the working directory.
        "TENSORBOARD_DIR": str(tensorboard),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "SLIME_ACCELERATOR": "cpu",
        "SLIME_HOST_IP": "127.0.0.1",
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TORCHDYNAMO_DISABLE": "1",
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "RAY_DEDUP_LOGS": "0",
        "no_proxy": _LOOPBACK,
        "NO_PROXY": _LOOPBACK,
    }


def train(
    python: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    log_path: Path,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Runs slime's training to its end, and calls ``watch`` a few times a second meanwhile.

    Raises:
        TrainingFailed: it ended with an error.
    """
    command = [sys.executable, "-m", "slime_search.rehearsal.guard", str(python), "-W", "ignore"]
    command += ["-m", "slime_search.rehearsal.cpu.train", *arguments]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        ) as process,
    ):
        try:
            while process.poll() is None:
                watch()
                time.sleep(_POLL_S)
            watch()
        finally:
            # The guard ends all that it started when its input ends; leaving the block closes that and waits.
            if process.poll() is None:
                process.terminate()
    if process.returncode:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-_LINES:])
        raise TrainingFailed(
            f"slime's training ended with exit code {process.returncode}.\nLast lines of {log_path}:\n{tail}"
        )
