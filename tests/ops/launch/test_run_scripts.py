"""The run scripts' command, as ``--dry-run`` prints it, and what they refuse."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples/search_r1"
SCRIPTS = ["run_qwen2.5_3B.sh", "run_qwen2.5_3B_oai.sh"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything but a GPU: what the scripts look for, in a folder."""
    models = tmp_path / "slime/scripts/models"
    models.mkdir(parents=True)
    (models / "qwen2.5-3B.sh").write_text("MODEL_ARGS=(--num-layers 36)\n")
    (tmp_path / "slime/train.py").touch()
    for folder in ("megatron", "hf", "hf_torch_dist", "data/test"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("hf/config.json", "data/train.parquet", "data/test/nq.parquet"):
        (tmp_path / file).touch()
    names = {"SLIME_HOME": "slime", "MEGATRON_HOME": "megatron", "HF_CHECKPOINT": "hf", "DATA": "data"}
    plain = {name: value for name, value in os.environ.items() if name not in ("USE_TIS", "WANDB_PROJECT")}
    return plain | {name: str(tmp_path / folder) for name, folder in names.items()}


def run(script: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [EXAMPLE / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def command_of(script: str, *arguments: str, environment: dict[str, str]) -> list[str]:
    done = run(script, "--dry-run", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def value(command: list[str], option: str) -> str:
    """The last one given, which is what a parser takes."""
    return command[len(command) - command[::-1].index(option)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_defaults_are_those_of_the_field(script: str, environment: dict[str, str]) -> None:
    command = command_of(script, environment=environment)
    expected = {
        "--num-layers": "36",
        "--rollout-batch-size": "32",
        "--n-samples-per-prompt": "8",
        "--global-batch-size": "256",
        "--kl-loss-coef": "0.001",
        "--eps-clip-high": "0.28",
        "--lr": "1e-6",
        "--tensor-model-parallel-size": "2",
        "--actor-num-gpus-per-node": "4",
        "--ref-load": f"{environment['HF_CHECKPOINT']}_torch_dist",
        "--custom-reward-post-process-path": "slime_search.hooks.groups.normalize_rewards",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--colocate" in command
    assert "--use-tis" not in command
    place = command.index("--eval-prompt-data")
    assert command[place + 1 : place + 3] == ["nq", f"{environment['DATA']}/test/nq.parquet"]


def test_each_script_names_its_own_hooks_and_columns(environment: dict[str, str]) -> None:
    tags, tools = (command_of(script, environment=environment) for script in SCRIPTS)
    assert value(tags, "--custom-generate-function-path") == "generate_with_search.generate"
    assert value(tools, "--custom-generate-function-path") == "generate_with_search_oai.generate"
    assert value(tags, "--label-key") == "reward_model"
    assert value(tools, "--tool-key") == "tools"
    assert "--apply-chat-template" not in tools


def test_what_is_overridden(environment: dict[str, str]) -> None:
    changed = environment | {
        "USE_TIS": "1",
        "TP": "1",
        "SAVE": "/ckpt",
        "WANDB_PROJECT": "p",
        "WANDB_API_KEY": "s3cr3t",
    }
    command = command_of(SCRIPTS[0], "--lr", "2e-6", environment=changed)
    assert value(command, "--lr") == "2e-6"
    assert value(command, "--load") == value(command, "--save") == "/ckpt"
    assert value(command, "--rollout-num-gpus-per-engine") == "1"
    assert value(command, "--custom-config-path").startswith(environment["SLIME_HOME"])
    assert "--use-tis" in command
    assert value(command, "--wandb-group") == "search-r1_qwen2.5-3B"
    assert not any("s3cr3t" in argument for argument in command)


def test_one_of_two_custom_configs_is_not_dropped_in_silence(environment: dict[str, str]) -> None:
    done = run(SCRIPTS[0], "--dry-run", environment=environment | {"USE_TIS": "1", "CUSTOM_CONFIG": "mine.yaml"})
    assert done.returncode == 2
    assert "TIS_CONFIG" in done.stderr


def test_without_test_sets_nothing_is_evaluated(environment: dict[str, str]) -> None:
    (Path(environment["DATA"]) / "test/nq.parquet").unlink()
    assert "--eval-interval" not in command_of(SCRIPTS[0], environment=environment)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("slime/train.py", "SLIME_HOME: "),
        ("hf/config.json", "HF_CHECKPOINT: "),
        ("data/train.parquet", "slime-search prepare-data"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], tmp_path: Path, missing: str, words: str) -> None:
    (tmp_path / missing).unlink()
    done = run(SCRIPTS[0], environment=environment)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize("holds", [None, "latest_checkpointed_iteration.txt", "config.json"])
def test_a_checkpoint_that_is_not_there_is_not_passed_over(
    environment: dict[str, str], tmp_path: Path, holds: str | None
) -> None:
    """slime would start over from the reference. What is missing next are the questions."""
    folder = tmp_path / "other"
    folder.mkdir()
    if holds:
        (folder / holds).touch()
    (tmp_path / "data/train.parquet").unlink()
    done = run(SCRIPTS[0], environment=environment | {"LOAD": str(folder)})
    assert done.returncode == 2
    assert done.stderr.startswith("DATA: " if holds else f"LOAD: {folder} holds no checkpoint; ")


def test_the_conversion_overwrites_nothing(environment: dict[str, str]) -> None:
    done = run("convert_model.sh", environment=environment)
    assert done.returncode == 2
    assert "exists already" in done.stderr


@pytest.mark.parametrize("script", [*SCRIPTS, "convert_model.sh"])
def test_without_slime_its_variable_is_named(script: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SLIME_HOME": "/no/slime", "REF_LOAD": str(tmp_path / "new")}
    done = run(script, "--dry-run", environment=environment)
    assert done.returncode == 2
    assert done.stderr == "SLIME_HOME: /no/slime has no scripts/models; name a checkout of slime\n"
