"""Saves checkpoints as slime does, and does things with them in a process that kills itself."""

import io
import multiprocessing
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from slime_search.ops.checkpoints.folder import TRACKER, CheckpointFolder, folder_name, position_name
from slime_search.ops.checkpoints.hub import HubRepo
from slime_search.ops.checkpoints.resume import prepare_resume

REPO = "owner/run"
SHARDS = 3
NEVER = 10**9


def content(iteration: int) -> dict[str, bytes]:
    """Every file of a checkpoint, in the order in which slime writes them, without the tracker."""
    shards = {
        f"{folder_name(iteration)}/__{n}_0.distcp": bytes([n, iteration % 256]) * (200 + n) for n in range(SHARDS)
    }
    return {
        **shards,
        f"{folder_name(iteration)}/.metadata": f"metadata of {iteration}".encode(),
        f"hf_{iteration}/model.safetensors": bytes([iteration % 256]) * 300,
        f"hf_{iteration}/config.json": b"{}",
        position_name(iteration): _position(iteration),
    }


def _position(iteration: int) -> bytes:
    """A zip archive, as torch.save writes it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), f"position {iteration}")
    return packed.getvalue()


def save(root: Path, iteration: int) -> None:
    """What slime does between two lines of its training loop."""
    files = content(iteration)
    written = [name for name in files if name.startswith("iter_")]
    for name in written:
        _write(root / name, files[name])
    _write(root / TRACKER, str(iteration).encode())
    for name in files:
        if name not in written:
            _write(root / name, files[name])


def _write(path: Path, data: bytes) -> None:
    """In two steps, so that a kill can come between them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    with path.open("ab") as file:
        file.write(data[len(data) // 2 :])


def is_whole(root: Path, iteration: int) -> bool:
    return all(
        (root / name).is_file() and (root / name).read_bytes() == data for name, data in content(iteration).items()
    )


def hub_settings(endpoint: str) -> dict[str, Any]:
    """What huggingface_hub reads from the environment once, when it is imported."""
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    return {"ENDPOINT": endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_DISABLE_XET": True}


def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["saving", "huggingface_hub.hf_api"])
    return made


Action = Callable[[Path], object]


def save_next(root: Path) -> None:
    save(root, (CheckpointFolder(root).tracked() or 0) + 10)


def seal(root: Path) -> None:
    CheckpointFolder(root).seal_finished()


def prune(root: Path) -> None:
    CheckpointFolder(root).prune(2)


def resume(root: Path) -> None:
    prepare_resume(CheckpointFolder(root), None)


def push(root: Path) -> None:
    folder = CheckpointFolder(root)
    manifest = folder.seal_finished()
    assert manifest
    HubRepo(REPO).push(folder, manifest, keep=2)


def fetch(root: Path) -> None:
    prepare_resume(CheckpointFolder(root), HubRepo(REPO))


def until_killed(action: Action, root: Path, deadly_event: int, endpoint: str) -> None:
    """Runs ``action`` in a process that kills itself at its n-th step on a file of the folder."""
    for name, value in hub_settings(endpoint).items():
        setattr(constants, name, value)
    os.environ["HF_TOKEN"] = "hf_secret"
    left = deadly_event

    def on_event(event: str, details: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(root) in str(details[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    action(root)


def killed_at(processes: ForkServerContext, action: Action, root: Path, event: int, endpoint: str = "") -> bool:
    """Whether it was killed before it ended by itself."""
    child = processes.Process(target=until_killed, args=(action, root, event, endpoint))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0
