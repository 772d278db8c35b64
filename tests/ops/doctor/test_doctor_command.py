"""``slime-search doctor`` as its users run it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.ops.doctor.doctor_site import Site


def checks(site: Site, *arguments: str, code: int) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The whole answer, and its checks by name."""
    done = site.doctor("--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == code
    return answer, {check["name"]: check for check in answer["checks"]}


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_everything_but_a_gpu(site: Site) -> None:
    done = site.doctor()
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "no GPU: training can't start; everything else is ready"
    assert [line.split()[1] for line in lines if line.startswith("fail")] == ["GPUs"]
    assert "slime 9.9.9" in done.stdout
    assert max(map(len, lines)) <= 100


def test_with_gpus_training_can_start(site: Site) -> None:
    site.gpus(4)
    for package in ("sglang", "megatron"):
        path = site.folder / "megatron" / package / "__init__.py"
        path.parent.mkdir(parents=True)
        path.touch()
    site.distribution("numpy", "1.26.4")
    Path(f"{site.folder}/model_torch_dist").mkdir()
    site.program("tmux", "exit 0\n")
    answer, found = checks(site, code=0)
    assert answer["verdict"] == "ready: training can start"
    assert answer["has_gpu"]
    for name in (
        "sglang",
        "megatron",
        "numpy",
        "MEGATRON_HOME",
        "slime imports",
        "REF_LOAD",
        "GPUs",
        "GPU memory",
        "RAM",
    ):
        assert found[name]["status"] == "pass", found[name]


def test_nothing_is_set_up(site: Site) -> None:
    for name in ("SLIME_HOME", "HF_CHECKPOINT", "DATA", "CORPUS_PATH", "MEGATRON_HOME", "SAVE"):
        site.change(**{name: site.folder / "nowhere"})
    answer, found = checks(site, code=1)
    failed = {name: check for name, check in found.items() if check["status"] == "fail"}
    assert failed.keys() == {"SLIME_HOME", "HF_CHECKPOINT", "train data", "retriever", "GPUs"}
    assert all(check["fix"] for check in failed.values())
    assert answer["verdict"] == "not ready: 5 problems to put right; one is that there is no GPU"
    assert found["tokenizer"] == {
        "topic": "Model",
        "name": "tokenizer",
        "status": "skip",
        "found": "HF_CHECKPOINT has to be readable first",
        "fix": "",
        "traceback": "",
    }


def test_what_can_not_be_read_is_bad_usage(site: Site) -> None:
    site.change(NUM_GPUS="four")
    done = site.doctor()
    assert done.returncode == 2
    assert "NUM_GPUS = 'four': expected is a whole number" in done.stderr
    assert site.doctor("--no-such-option").returncode == 2
    site.change(NUM_GPUS="4", RETRIEVAL_SERVER_URL="localhost")
    done = site.doctor()
    assert (done.returncode, "RETRIEVAL_SERVER_URL = 'localhost'" in done.stderr) == (2, True)
