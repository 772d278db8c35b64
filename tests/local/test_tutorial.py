"""docs/tutorial.md, as it stands there, in one shell from the first block to the GPU node.

Two things are not as they stand there: nothing is installed, and slime is cloned from a folder. Unless TUTORIAL_FULL=1
is set, the quickstart is the short one that the page offers. Port 8000 may be somebody's, so another takes its place.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.small_slime import save_slime

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
HERE, _, ON_GPUS = PAGE.partition("## 7. On a GPU node")
QUICKSTART = "slime-search quickstart\n"
SHORT = "slime-search quickstart --steps 2"
EXPECTED = {"slime-search doctor": 1, "examples/search_r1/run_with_retrieval.sh --dry-run": 2}
"""Commands that end otherwise than with 0, as the page says."""

pytestmark = pytest.mark.skipif(
    shutil.which("nvidia-smi") is not None or not all(map(shutil.which, ("tmux", "curl", "git"))),
    reason="needs tmux, curl and git, and a machine without a GPU",
)


def blocks_of(page: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def walked(folder: Path) -> tuple[str, dict[str, int]]:
    """What every block of the first part prints in ``folder``, and the commands that failed, with their codes."""
    install, *blocks = blocks_of(HERE)
    assert "pip install" in install and not any("pip install" in block for block in blocks)
    script = "".join(blocks)
    if os.environ.get("TUTORIAL_FULL") != "1":
        assert QUICKSTART in script and SHORT in HERE
        script = script.replace(QUICKSTART, f"{SHORT}\n")
    port = free_port()
    script = script.replace("8000", str(port))
    traced = f"trap 'echo \"@@ $? $BASH_COMMAND\"' ERR\n{script}"
    done = subprocess.run(
        ["bash", "-c", traced], cwd=folder, env=environment(folder, port), capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    codes = {command: int(code) for code, command in re.findall(r"^@@ (\d+) (.*)", output, re.MULTILINE)}
    return output, codes


def environment(folder: Path, port: int) -> dict[str, str]:
    """As after the installation, with the checkout in ``folder``."""
    (folder / "examples").symlink_to(ROOT / "examples")
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "slime-search").write_text(f'#!/bin/sh\nexec {sys.executable} -m slime_search.cli "$@"\n')
    (programs / "slime-search").chmod(0o755)
    told = {"PATH": os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))}
    told |= {"PYTHONPATH": str(ROOT), "RETRIEVAL_SERVER_URL": f"http://127.0.0.1:{port}", "COLUMNS": "100"}
    return os.environ | told | cloned_from(repository(folder.parent / "slime"))


def repository(folder: Path) -> Path:
    save_slime(folder)
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x@x commit -qm small"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


def cloned_from(folder: Path) -> dict[str, str]:
    """Git takes slime from ``folder`` in place of GitHub."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/THUDM/slime",
    }


@pytest.mark.timeout(1800)
def test_it_can_be_walked_to_the_gpu_node(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    output, codes = walked(folder)
    assert codes == EXPECTED, output
    for said in (
        "held-out exact match",
        "Rollouts, numbers and a Markdown table are in runs/before.",
        "novel by Jane Austen",
        "no GPU: training can't start; everything else is ready",
        "slime_search.cli serve-retriever --retriever_name bm25",
        "run_qwen2.5_3B.sh",
    ):
        assert said in output, f"{said!r} is not in:\n{output}"
    for left in (
        "runs/quickstart/report.html",
        "runs/evaluate/summary.json",
        "runs/before/rollouts.jsonl",
        "runs/wrong.html",
        "runs/own/index",
        "runs/own/data/train.parquet",
        "runs/own/data/test/nq.parquet",
    ):
        assert (folder / left).exists(), left


def test_the_part_for_gpus_is_bash() -> None:
    for block in blocks_of(ON_GPUS):
        subprocess.run(["bash", "-n", "-c", block], check=True)
