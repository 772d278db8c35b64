"""The scripts of Thinker–Searcher: their commands, what they refuse, and what they start and end."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ops.launch.launched import Site
from tests.support.processes import free_port, is_open, wait_until

EXAMPLE = Path(__file__).parents[3] / "examples/thinker_searcher"
RUN_ALL = (str(EXAMPLE / "run_all.sh"),)
OF_THE_SCRIPTS = ("SEARCHER_", "TRAIN_", "SGLANG_", "RETRIEV", "CUDA_", "USE_TIS", "WANDB", "MAX_", "RAY_ADDRESS")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything but a GPU: what the scripts look for, in a folder."""
    models = tmp_path / "slime/scripts/models"
    models.mkdir(parents=True)
    (models / "qwen2.5-0.5B.sh").write_text("MODEL_ARGS=(--num-layers 24)\n")
    (tmp_path / "slime/train.py").touch()
    for folder in ("megatron", "hf", "hf_torch_dist", "searcher", "data/test"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (
        "hf/config.json",
        "searcher/config.json",
        "data/train.parquet",
        "data/test/hotpotqa.parquet",
        "data/corpus.jsonl",
        "data/faiss.index",
    ):
        (tmp_path / file).touch()
    names = {"SLIME_HOME": "slime", "MEGATRON_HOME": "megatron", "HF_CHECKPOINT": "hf", "DATA": "data"}
    names["SEARCHER_CHECKPOINT"] = "searcher"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_SCRIPTS)}
    return plain | {name: str(tmp_path / folder) for name, folder in names.items()}


def run(script: str, *arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [EXAMPLE / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=150)


def commands_of(script: str, *arguments: str, environment: dict[str, str]) -> list[list[str]]:
    done = run(script, "--dry-run", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def value(command: list[str], option: str) -> str:
    """The last one given, which is what a parser takes."""
    return command[len(command) - command[::-1].index(option)]


def training(environment: dict[str, str], *arguments: str) -> list[str]:
    (command,) = commands_of("train_hierarchical_grpo.sh", *arguments, environment=environment)
    return command


def test_one_gpu_for_everything(environment: dict[str, str]) -> None:
    command = training(environment)
    expected = {
        "--num-layers": "24",
        "--actor-num-gpus-per-node": "1",
        "--rollout-num-gpus": "1",
        "--num-gpus-per-node": "1",
        "--tensor-model-parallel-size": "1",
        "--rollout-max-response-len": "300",
        "--eval-max-response-len": "300",
        "--rollout-max-context-len": "2048",
        "--max-tokens-per-gpu": "2048",
        "--sglang-mem-fraction-static": "0.5",
        "--save-interval": "100",
        "--custom-generate-function-path": "generate_with_thinker.generate",
        "--prompt-data": f"{environment['DATA']}/train.parquet",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--colocate" in command and "--sglang-config" not in command
    assert command[:4] == ["python3", "-m", "slime_search.hooks.stoppable", f"{environment['SLIME_HOME']}/train.py"]
    engine, _ = commands_of("launch_searcher.sh", environment=environment)
    assert engine[0] == "CUDA_VISIBLE_DEVICES=0"
    assert value(engine, "--mem-fraction-static") == "0.25"


def test_a_gpu_each(environment: dict[str, str]) -> None:
    two = environment | {"SEARCHER_GPU": "1"}
    assert value(training(two), "--max-tokens-per-gpu") == "4096"
    engine, _ = commands_of("launch_searcher.sh", environment=two)
    assert engine[0] == "CUDA_VISIBLE_DEVICES=1"
    assert value(engine, "--mem-fraction-static") == "0.8"
    several = training(environment | {"TRAIN_GPUS": "0,1,2", "SEARCHER_GPU": "3"})
    assert value(several, "--actor-num-gpus-per-node") == value(several, "--rollout-num-gpus") == "3"


@pytest.mark.parametrize("visible", ["4,5,6,7", "GPU-a,GPU-b,GPU-c,GPU-d"])
def test_numbers_count_the_gpus_that_the_scheduler_gave(environment: dict[str, str], visible: str) -> None:
    names = visible.split(",")
    given = environment | {"CUDA_VISIBLE_DEVICES": visible, "TRAIN_GPUS": "1,0", "SEARCHER_GPU": "3"}
    engine, _ = commands_of("launch_searcher.sh", environment=given)
    assert engine[0] == f"CUDA_VISIBLE_DEVICES={names[3]}"
    assert devices_of_training(given) == f"{names[1]},{names[0]}"
    yaml = str(EXAMPLE / "two_models.yaml")
    assert devices_of_training(given | {"SGLANG_CONFIG": yaml}) == f"{names[1]},{names[0]},{names[3]}"
    default = environment | {"CUDA_VISIBLE_DEVICES": visible}
    assert commands_of("launch_searcher.sh", environment=default)[0][0] == f"CUDA_VISIBLE_DEVICES={names[0]}"
    assert devices_of_training(default) == names[0]


def test_a_gpu_that_the_scheduler_did_not_give_is_refused(environment: dict[str, str]) -> None:
    given = environment | {"CUDA_VISIBLE_DEVICES": "4,5", "SEARCHER_GPU": "2", "TRAIN_GPUS": "0,7"}
    for script, words in (
        ("launch_searcher.sh", "SEARCHER_GPU: there is no GPU 2"),
        ("train_hierarchical_grpo.sh", "7"),
    ):
        done = run(script, "--dry-run", environment=given)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "CUDA_VISIBLE_DEVICES=4,5" in done.stderr


def devices_of_training(environment: dict[str, str]) -> str:
    """CUDA_VISIBLE_DEVICES of the training, as Python would see it."""
    line = 'source "$1" --dry-run >/dev/null && echo "$CUDA_VISIBLE_DEVICES"'
    command = ["bash", "-c", line, "bash", EXAMPLE / "train_hierarchical_grpo.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_slimes_second_model(environment: dict[str, str]) -> None:
    yaml = str(EXAMPLE / "two_models.yaml")
    command = training(environment | {"SEARCHER_GPU": "1", "SGLANG_CONFIG": yaml})
    assert value(command, "--sglang-config") == yaml
    assert value(command, "--actor-num-gpus-per-node") == "1"
    assert value(command, "--rollout-num-gpus") == value(command, "--num-gpus-per-node") == "2"


def test_one_variable_resumes(environment: dict[str, str]) -> None:
    own = training(environment)
    assert value(own, "--load") == value(own, "--save") == f"{environment['HF_CHECKPOINT']}_thinker"
    other = training(environment | {"LOAD": "/ckpt/other"})
    assert (value(other, "--load"), value(other, "--save")) == ("/ckpt/other", value(own, "--save"))


def test_the_searchers_servers_find_each_other(environment: dict[str, str]) -> None:
    moved = environment | {
        "SEARCHER_ENGINE_PORT": "30009",
        "SEARCHER_SERVER_URL": "http://127.0.0.1:8009",
        "RETRIEVAL_SERVER_URL": "http://10.0.0.1:8000",
        "SEARCHER_ENGINE_OPTIONS": "--context-length 4096",
    }
    engine, service = commands_of("launch_searcher.sh", environment=moved)
    assert (value(engine, "--port"), value(engine, "--context-length")) == ("30009", "4096")
    assert value(engine, "--host") == "127.0.0.1"
    assert value(service, "--engine-url") == "http://127.0.0.1:30009"
    assert value(service, "--port") == "8009"
    assert service[0] == "SLIME_SEARCH_LOCAL__SEARCH_URL=http://10.0.0.1:8000/retrieve"
    elsewhere = environment | {"SEARCHER_ENGINE_URL": "http://10.0.0.2:8080", "SEARCHER_ENGINE_API": "openai"}
    (service,) = commands_of("launch_searcher.sh", environment=elsewhere)
    assert (value(service, "--engine-url"), value(service, "--engine-api")) == ("http://10.0.0.2:8080", "openai")


def test_the_retriever(environment: dict[str, str]) -> None:
    (command,) = commands_of("launch_retrieval.sh", "--topk", "5", environment=environment)
    assert value(command, "--corpus_path") == f"{environment['DATA']}/corpus.jsonl"
    assert value(command, "--index_path") == f"{environment['DATA']}/faiss.index"
    assert (value(command, "--port"), value(command, "--topk")) == ("8000", "5")
    (command,) = commands_of("launch_retrieval.sh", environment=environment | {"RETRIEVER_NAME": "bm25"})
    assert "--index_path" not in command


MISSING = {
    "the corpus": ("launch_retrieval.sh", "data/corpus.jsonl", "slime-search prepare-data hotpotqa-only --output"),
    "the index": ("launch_retrieval.sh", "data/faiss.index", "INDEX_PATH: "),
    "the frozen model": ("launch_searcher.sh", "searcher/config.json", "hf download Qwen/Qwen2.5-1.5B-Instruct"),
    "the questions": ("train_hierarchical_grpo.sh", "data/train.parquet", "prepare-data hotpotqa-only --output"),
}


@pytest.mark.parametrize(("script", "file", "words"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_named(
    script: str, file: str, words: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / file).unlink()
    done = run(script, environment=environment)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_searcher_that_is_not_there_is_named_before_slime_starts(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    away = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "SEARCHER_SERVER_URL": f"http://127.0.0.1:{free_port()}"}
    done = run("train_hierarchical_grpo.sh", environment=environment | away)
    assert done.returncode == 2
    assert "SEARCHER_SERVER_URL: " in done.stderr and "launch_searcher.sh" in done.stderr


@pytest.mark.parametrize("options", [["--onyl", "engine"], ["--only", "both"]])
def test_an_option_that_is_none_is_refused(options: list[str], environment: dict[str, str]) -> None:
    done = run("launch_searcher.sh", *options, environment=environment)
    assert done.returncode == 2
    assert "engine" in done.stderr and "service" in done.stderr


def test_every_variable_stands_in_the_readme_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \|([^|]*)\|", (EXAMPLE / "README.md").read_text(), re.MULTILINE))
    for script in EXAMPLE.glob("*.sh"):
        body = "\n".join(line for line in script.read_text().splitlines() if not line.startswith("#"))
        of_the_recipe = {name for name in re.findall(r"\$\{([A-Z_]+):-", body) if name.startswith("SLIME_SEARCH_")}
        assert set(re.findall(r"\$\{([A-Z_]+):-", body)) - of_the_recipe <= rows.keys(), script.name
        for name, default in re.findall(r"\$\{([A-Z_]+):-([\w./:-]+)\}", body):
            assert default in rows[name], f"{script.name}: {name} = {default}, the table has {rows[name]}"


# What follows starts processes.


PYTHON = """
case "$1 $2" in
    "-c "*sglang*) exit 0 ;;
    "-m sglang.launch_server" | "-m ${{STANDS_IN_FOR:-}}") exec {python} {stand_in} "${{@:3}}" ;;
esac
exec {python} "$@"
"""


class Sites:
    """A site with a frozen model, whose engine is a stand-in for SGLang; ``STANDS_IN_FOR`` names a further module."""

    def __init__(self, site: Site, checkpoint: Path) -> None:
        self.site = site
        stand_in = Path(__file__).with_name("stand_in_engine.py")
        python = site.script("python", PYTHON.format(python=sys.executable, stand_in=stand_in))
        plain = {name: v for name, v in site.environment.items() if not name.startswith(("SEARCHER_", "SGLANG_"))}
        site.environment = plain | {
            "PYTHON": python,
            "SEARCHER_CHECKPOINT": str(checkpoint),
            "SEARCHER_SERVER_URL": f"http://127.0.0.1:{free_port()}",
            "SEARCHER_ENGINE_PORT": str(free_port()),
            "STOP_TIMEOUT": "60",
            "RETRIEVAL_TIMEOUT": "250",
        }

    def is_open(self, name: str) -> bool:
        return is_open(int(self.site.environment[name].rpartition(":")[2]))

    def assert_nothing_is_left(self) -> None:
        self.site.assert_nothing_is_left()
        for name in ("SEARCHER_SERVER_URL", "SEARCHER_ENGINE_PORT"):
            wait_until(lambda name=name: not self.is_open(name))


@pytest.fixture
def whole(site: Site, qwen_folder: Path) -> Sites:
    checkpoint = shutil.copytree(qwen_folder, site.folder / "frozen")
    (checkpoint / "config.json").write_text("{}")
    return Sites(site, checkpoint)


ASK = """
curl --noproxy "*" -fsS -H 'Content-Type: application/json' -d '{"queries": ["where is it?"]}' \
    "$SLIME_SEARCH_SEARCHER_URL"
echo "given: $*"
exit 7
"""


def test_run_all_starts_everything_in_order_and_ends_it(whole: Sites) -> None:
    site = whole.site
    process = site.start("--", "--steps", "5", program=RUN_ALL, TRAIN_SCRIPT=site.script("train.sh", ASK))
    _, stderr = process.communicate(timeout=250)
    assert process.returncode == 7, stderr
    said = site.log("training")
    assert '"answer":"it was found"' in said and "given: --steps 5" in said
    assert "searcher ready at" in site.log("searcher_server")
    assert "loading" in site.log("searcher_engine")
    assert "retriever ready at" in site.log("retrieval_server")
    whole.assert_nothing_is_left()


def test_run_all_without_a_service_of_its_own(whole: Sites) -> None:
    site = whole.site
    script = site.script("train.sh", "true")
    elsewhere = {"SEARCHER_SERVER_URL": "http://searcher.invalid:8001"}
    process = site.start("--dry-run", program=RUN_ALL, TRAIN_SCRIPT=script, **elsewhere)
    stdout, stderr = process.communicate(timeout=150)
    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == 2 and "searcher is asked only: http://searcher.invalid:8001" in stderr
    process = site.start("--dry-run", program=RUN_ALL, TRAIN_SCRIPT=script, SGLANG_CONFIG="two_models.yaml")
    stdout, stderr = process.communicate(timeout=150)
    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == 2 and "searcher" not in stderr


def test_launch_searcher_runs_both_and_ends_both(whole: Sites) -> None:
    site = whole.site
    environment = site.environment | {"STANDS_IN_FOR": "slime_search.recipes.thinker_searcher"}
    command = [str(EXAMPLE / "launch_searcher.sh")]
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for end in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(command, env=environment, start_new_session=True, **pipe) as running:
            site.running.append(running)
            wait_until(lambda: whole.is_open("SEARCHER_ENGINE_PORT") and whole.is_open("SEARCHER_SERVER_URL"))
            if end is signal.SIGTERM:
                running.send_signal(end)
                assert running.wait(150) == 143
            else:
                engines = [p for p in processes(site.environment["SEARCHER_ENGINE_PORT"]) if "stand_in" in p[1]]
                os.kill(engines[0][0], end)
                _, stderr = running.communicate(timeout=150)
                assert running.returncode == 1
                assert "the searcher's engine ended with code 137" in stderr and "loading" in stderr
        whole.assert_nothing_is_left()


def processes(words: str) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in command:
            found.append((int(entry.parent.name), command))
    return found
