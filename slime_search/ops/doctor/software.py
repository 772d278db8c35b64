"""Programs and packages."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import slime_search
from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup

_PROBE = Path(__file__).with_name("probe.py")
_TIMEOUT_S = 240
_OLDEST = (3, 11)
_IMAGE = "slime's image has it: docker pull slimerl/slime:latest"
_TOGETHER = 'pip install "numpy<2" "pyarrow<26" "scipy<1.18"'
"""slime's trainer asserts numpy 1, which newer ones of the others refuse; of pyarrow pip does not know it."""


class Package(NamedTuple):
    name: str
    needed_for: str
    fix: str
    on_gpus_only: bool = False


PACKAGES = (
    Package("torch", "slime", f"{_IMAGE}; elsewhere: pip install torch"),
    Package("transformers", "the tokenizer", f"{_IMAGE}; elsewhere: pip install transformers"),
    Package("ray", "slime", f'{_IMAGE}; elsewhere: pip install "ray[default]"'),
    Package("numpy", "slime", f"{_IMAGE}; elsewhere: {_TOGETHER}"),
    Package("pyarrow", "reading the data", f"{_IMAGE}; elsewhere: {_TOGETHER}"),
    Package("sglang", "the engine", _IMAGE, on_gpus_only=True),
    Package("megatron", "training", f"{_IMAGE}; or set MEGATRON_HOME to a checkout of Megatron-LM", on_gpus_only=True),
)


def look(setup: Setup) -> dict[str, Any]:
    """What ``probe.py`` finds in the Python that the run scripts call. Raises Waits."""
    found: dict[str, Any] | None = setup.__dict__.get("_probed")
    if found is None:
        found = setup.__dict__["_probed"] = _probe(setup)
    if "failure" in found:
        raise Waits("python3 has to run first")
    return found


def _probe(setup: Setup) -> dict[str, Any]:
    program = shutil.which("python3")
    if program is None:
        return {"failure": "there is none on PATH"}
    names = ",".join(package.name for package in PACKAGES)
    # slime's arguments import SGLang and Megatron, which a machine without GPUs can do without.
    module = "slime.utils.arguments" if setup.gpus else "slime.rollout.sglang_rollout"
    environment = os.environ | {"PYTHONPATH": setup.run.python_path()}
    command = [program, "-c", _PROBE.read_text(), names, module]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failure": f"{program}: {error}"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        said = done.stderr.strip().splitlines()
        return {"failure": f"{program} ended with code {done.returncode}: {said[-1] if said else 'no word why'}"}
    return found


def python(setup: Setup) -> Iterator[Result]:
    """The Python that the run scripts call has slime-search."""
    try:
        found = look(setup)
    except Waits:
        yield failed("python3", setup.__dict__["_probed"]["failure"], "install Python 3.11 or newer")
        return
    finding = f"{found['python']}, {found['executable']}"
    if tuple(int(part) for part in found["python"].split(".")[:2] if part.isdigit()) < _OLDEST:
        yield failed("python3", finding, "slime-search needs Python 3.11 or newer: activate such an environment")
    elif found["plugin"] is not None:
        yield failed(
            "python3",
            f"{finding}, can't import slime_search ({found['plugin']})",
            "the run scripts call python3: activate the environment that has slime-search, or install it there",
        )
    else:
        yield passed("python3", finding)
    yield passed("slime-search", slime_search.__version__)


def packages(setup: Setup) -> Iterator[Result]:
    """What slime and the hooks import is installed, in versions that go together; what only a GPU can run is not missed
    without one.
    """
    found = look(setup)
    versions = found["versions"]
    for package in PACKAGES:
        version = versions[package.name]
        if version is not None:
            yield _of_version(package.name, version, found, on_gpus=bool(setup.gpus))
        elif package.on_gpus_only and not setup.gpus:
            yield skipped(package.name, f"not installed; {package.needed_for} needs it, on GPUs only")
        else:
            yield failed(package.name, f"not installed; {package.needed_for} needs it", package.fix)


def _of_version(name: str, version: str, found: dict[str, Any], *, on_gpus: bool) -> Result:
    """Whether a package that is there can be used by slime."""
    if name == "numpy" and not version.startswith("1."):
        told = f"{version}; slime's trainer asserts 1.x"
        return failed(name, told, _TOGETHER) if on_gpus else passed(name, f"{told}, on GPUs only")
    if name == "pyarrow" and found["pyarrow"] is not None:
        return failed(name, f"{version} can't be imported ({found['pyarrow']})", _TOGETHER)
    return passed(name, version)


def tmux(setup: Setup) -> Iterator[Result]:
    """tmux is there, in which ``run_with_retrieval.sh`` runs."""
    program = shutil.which("tmux")
    if program is not None:
        yield passed("tmux", program)
    elif setup.starts_retriever:
        yield failed("tmux", "not installed; run_with_retrieval.sh needs it", "apt-get install tmux")
    else:
        yield warned("tmux", "not installed; only run_with_retrieval.sh needs it", "apt-get install tmux")


CHECKS = (python, packages, tmux)
