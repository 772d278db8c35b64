"""CoDA's scripts: their commands, as ``--dry-run`` prints them, what they refuse, and their checkpoints."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.checkpoints.saving import save

EXAMPLE = Path(__file__).parents[3] / "examples/coda"
HOOKS = "slime_search.hooks"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything but a GPU: what the scripts look for, in a folder."""
    models = tmp_path / "slime/scripts/models"
    models.mkdir(parents=True)
    (models / "qwen2.5-3B.sh").write_text("MODEL_ARGS=(--num-layers 36)\n")
    (tmp_path / "slime/train.py").touch()
    for folder in ("megatron", "hf", "hf_torch_dist", "data/test"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("hf/config.json", "data/train.parquet", "data/sft.parquet", "data/test/nq.parquet"):
        (tmp_path / file).touch()
    names = {"SLIME_HOME": "slime", "MEGATRON_HOME": "megatron", "HF_CHECKPOINT": "hf", "DATA": "data"}
    unset = ("USE_", "WANDB", "HUB_", "SFT_", "SAVE", "LOAD", "KEEP_", "RAY_ADDRESS")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    # The scripts call python3, which in slime's image has the package; here it is the one that runs the tests.
    plain["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}"
    return plain | {name: str(tmp_path / folder) for name, folder in names.items()}


def run(script: str, *arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [EXAMPLE / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def command_of(script: str, *arguments: str, environment: dict[str, str]) -> list[str]:
    done = run(script, "--dry-run", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def value(command: list[str], option: str) -> str:
    """The last one given, which is what a parser takes."""
    return command[len(command) - command[::-1].index(option)]


def test_planner_and_executors_are_trained_by_peco(environment: dict[str, str]) -> None:
    command = command_of("train.sh", "--lr", "2e-6", environment=environment)
    expected = {
        "--custom-generate-function-path": "generate_with_coda.generate",
        "--custom-rm-path": "generate_with_coda.reward_func",
        "--custom-reward-post-process-path": f"{HOOKS}.groups.normalize_rewards",
        "--global-batch-size": "256",
        "--advantage-estimator": "grpo",
        "--lr": "2e-6",
        "--save": f"{environment['HF_CHECKPOINT']}_coda",
        "--save-hf": f"{environment['HF_CHECKPOINT']}_coda/hf_{{rollout_id}}",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--loss-type" not in command


def test_red_is_switched_on(environment: dict[str, str]) -> None:
    command = command_of("train.sh", environment=environment | {"USE_RED": "1"})
    expected = {
        "--rollout-function-path": f"{HOOKS}.red.rollout.generate_rollout",
        "--rollout-data-postprocess-path": f"{HOOKS}.red.weights.weigh",
        "--custom-loss-function-path": f"{HOOKS}.red.loss.red_loss",
        "--loss-type": "custom_loss",
        "--global-batch-size": "257",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--use-rollout-entropy" in command
    assert "--decrease-batch-size-if-needed" in command


def test_the_cold_start_masks_by_who_wrote_what(environment: dict[str, str]) -> None:
    command = command_of("train_sft.sh", environment=environment)
    expected = {
        "--rollout-function-path": f"{HOOKS}.sft_rollout.generate_rollout",
        "--prompt-data": f"{environment['DATA']}/sft.parquet",
        "--metadata-key": "metadata",
        "--loss-type": "sft_loss",
        "--n-samples-per-prompt": "1",
        "--lr": "1e-5",
        "--lr-decay-style": "cosine",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert not {"--apply-chat-template", "--use-kl-loss", "--eval-interval"} & set(command)


@pytest.mark.parametrize(
    ("script", "missing", "words"),
    [
        ("train.sh", "data/train.parquet", "slime-search prepare-data --format coda"),
        ("train_sft.sh", "data/sft.parquet", "generate_sft_data.py"),
        ("train.sh", "hf/config.json", "HF_CHECKPOINT: "),
    ],
)
def test_what_is_missing_is_named(
    environment: dict[str, str], tmp_path: Path, script: str, missing: str, words: str
) -> None:
    (tmp_path / missing).unlink()
    done = run(script, environment=environment)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_retrievers_corpus_is_asked_for(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run("retrieval_launch.sh", environment=environment | {"DATA_DIR": str(tmp_path)})
    assert done.returncode == 1
    assert "CORPUS_PATH: " in done.stderr


def test_checkpoints_are_looked_after_until_the_training_ends(tmp_path: Path, environment: dict[str, str]) -> None:
    """The shell becomes the training, which saves one checkpoint as slime does."""
    root = tmp_path / "save"
    save(root, 10)
    script = f"""
        set -euo pipefail
        CKPT_ARGS=()
        source {EXAMPLE}/checkpoints.sh
        look_after_checkpoints
        exec sleep 1
    """
    done = subprocess.run(
        ["bash", "-c", script], env=environment | {"SAVE": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoint: 10 folder" in done.stderr
    assert (root / "manifests/iter_0000010.json").exists()
