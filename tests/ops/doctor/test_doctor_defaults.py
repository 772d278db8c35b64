"""The doctor looks at what the run scripts would run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from slime_search.ops.doctor.data import TAGS, TOOLS
from slime_search.ops.doctor.settings import TURN_TOKENS, RunSettings, launch_settings
from tests.ops.doctor.doctor_site import ROOT, Site

EXAMPLE = ROOT / "examples/search_r1"


def command_of(script: Path) -> list[str]:
    done = subprocess.run([script, "--dry-run"], capture_output=True, text=True, check=True, timeout=60)
    return shlex.split(done.stdout)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize(("name", "columns"), [("run_qwen2.5_3B.sh", TAGS), ("run_qwen2.5_3B_oai.sh", TOOLS)])
def test_the_training_scripts(site: Site, name: str, columns: object, changed: bool) -> None:
    if changed:
        site.change(REF_LOAD="/r", SAVE="/s", NUM_GPUS=8, TP=4, MAX_CONTEXT_LEN=99, NUM_ROLLOUT=7, SAVE_INTERVAL=2)
    else:
        os.environ.pop("HF_CHECKPOINT")
        os.environ.pop("DATA")
    script = EXAMPLE / name
    site.change(TRAIN_SCRIPT=script)
    command = command_of(script)
    run = RunSettings()

    def value(flag: str) -> str:
        return command[command.index(flag) + 1]

    assert command[1] == f"{run.slime_home}/train.py"
    expected = {
        "--hf-checkpoint": run.hf_checkpoint,
        "--ref-load": run.reference,
        "--save": run.saved,
        "--prompt-data": run.data / "train.parquet",
        "--actor-num-gpus-per-node": run.num_gpus,
        "--tensor-model-parallel-size": run.tp,
        "--rollout-max-context-len": run.max_context_len,
        "--rollout-max-response-len": TURN_TOKENS,
        "--num-rollout": run.num_rollout,
        "--save-interval": run.save_interval,
        "--custom-generate-function-path": f"{run.recipe}.generate",
        "--input-key": TAGS.prompt if columns is TAGS else TOOLS.prompt,
        "--label-key": TAGS.label if columns is TAGS else TOOLS.label,
    }
    assert {flag: value(flag) for flag in expected} == {flag: str(what) for flag, what in expected.items()}
    assert ("--tool-key" in command) == (columns is TOOLS)
    assert run.scripts == EXAMPLE


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_wrapper(site: Site) -> None:
    for name in ("CORPUS_PATH", "RETRIEVER_NAME"):
        os.environ.pop(name)
    site.change(DATA_DIR=site.folder)
    wrapper = [str(EXAMPLE / "run_with_retrieval.sh"), "--dry-run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMUX_TMPDIR": str(site.folder)}
    done = subprocess.run(wrapper, env=environment, capture_output=True, text=True, check=False, timeout=60)
    settings = launch_settings(RunSettings())
    assert f"CORPUS_PATH: {settings.corpus_path} does not exist" in done.stderr
    assert f"INDEX_PATH: {settings.index_path} does not exist" in done.stderr
