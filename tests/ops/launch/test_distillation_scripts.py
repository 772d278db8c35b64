"""The distillation scripts: their commands, what they refuse, and a teacher's server from its start to its end."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.processes import free_port, wait_until

EXAMPLE = Path(__file__).parents[3] / "examples/distillation"
GRPO, DISTILL, TEACHER = "train_search_grpo.sh", "train_search_distill.sh", "start_teacher_server.sh"
OF_THE_SCRIPTS = ("TEACHER_", "OPD_", "PURE_", "SGLANG_", "RETRIEV", "CUDA_", "USE_TIS", "WANDB", "MAX_", "RAY_ADDRESS")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything but a GPU: what the scripts look for, in a folder."""
    models = tmp_path / "slime/scripts/models"
    models.mkdir(parents=True)
    (models / "qwen3-4B-Instruct-2507.sh").write_text("MODEL_ARGS=(--num-layers 36)\n")
    (tmp_path / "slime/train.py").touch()
    for folder in ("megatron", "hf", "hf_torch_dist", "teacher", "data/test"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("hf/config.json", "teacher/config.json", "data/train.parquet", "data/test/asearcher.parquet"):
        (tmp_path / file).touch()
    names = {"SLIME_HOME": "slime", "MEGATRON_HOME": "megatron", "HF_CHECKPOINT": "hf", "DATA": "data"}
    names |= {"TEACHER_CHECKPOINT": "teacher", "LOG_DIR": "logs"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_SCRIPTS)}
    return plain | {name: str(tmp_path / folder) for name, folder in names.items()} | {"PYTHON": sys.executable}


def run(script: str, *arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [EXAMPLE / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def with_gpu(folder: Path, environment: dict[str, str]) -> str:
    """A PATH with a stand-in for ``nvidia-smi``, and with the Python that has the package."""
    binaries = folder / "bin"
    binaries.mkdir()
    (binaries / "nvidia-smi").write_text("#!/bin/sh\n")
    (binaries / "nvidia-smi").chmod(0o755)
    return f"{binaries}:{Path(sys.executable).parent}:{environment['PATH']}"


def command_of(script: str, *arguments: str, environment: dict[str, str]) -> list[str]:
    done = run(script, "--dry-run", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def value(command: list[str], option: str) -> str:
    """The last one given, which is what a parser takes."""
    return command[len(command) - command[::-1].index(option)]


def test_grpo_alone(environment: dict[str, str]) -> None:
    command = command_of(GRPO, environment=environment)
    expected = {
        "--num-layers": "36",
        "--custom-generate-function-path": "search_agent.generate",
        "--custom-rm-path": "search_agent.reward_func",
        "--custom-reward-post-process-path": "slime_search.hooks.groups.normalize_rewards",
        "--input-key": "messages",
        "--tool-key": "tools",
        "--label-key": "label",
        "--rollout-temperature": "1",
        "--rollout-max-response-len": "1024",
        "--rollout-max-context-len": "16384",
        "--n-samples-per-prompt": "8",
    }
    assert {option: value(command, option) for option in expected} == expected
    place = command.index("--eval-prompt-data")
    assert command[place + 1 : place + 3] == ["asearcher", f"{environment['DATA']}/test/asearcher.parquet"]
    assert "--use-opd" not in command


def test_with_a_teacher(environment: dict[str, str]) -> None:
    command = command_of(DISTILL, environment=environment)
    expected = {
        "--custom-generate-function-path": "search_agent_with_teacher.generate",
        "--custom-reward-post-process-path": "slime_search.hooks.distillation.normalize_rewards",
        "--rollout-data-postprocess-path": "slime_search.hooks.distillation.forget_unscored",
        "--opd-type": "sglang",
        "--opd-kl-coef": "0.05",
        "--save": f"{environment['HF_CHECKPOINT']}_distill",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--use-opd" in command
    changed = environment | {"PURE_DISTILLATION": "1", "OPD_KL_COEF": "1.0", "WANDB_PROJECT": "p"}
    pure = command_of(DISTILL, "--lr", "2e-6", environment=changed)
    assert value(pure, "--custom-reward-post-process-path") == "slime_search.hooks.distillation.no_task_reward"
    assert value(pure, "--opd-kl-coef") == "1.0" and value(pure, "--lr") == "2e-6"
    assert value(pure, "--wandb-group") == "search-distill_qwen3-4B-Instruct-2507"


def test_what_the_scripts_name_is_there() -> None:
    """The hooks and the examples' modules, and a configuration that holds what the seeds' tables say."""
    code = (
        "import search_agent, search_agent_with_teacher as taught, slime_search.hooks.distillation as hooks\n"
        "assert all(map(callable, (hooks.normalize_rewards, hooks.no_task_reward, hooks.forget_unscored)))\n"
        "config = taught.recipe.config()\n"
        "assert (config.topk, config.search_timeout_s, config.max_turns) == (5, 60, 9), config\n"
        "assert config.teacher.urls == ('http://127.0.0.1:15555',)\n"
        "assert search_agent.recipe.config().max_turns == 9\n"
    )
    path = os.pathsep.join([str(EXAMPLE), str(EXAMPLE.parents[1])])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path}, timeout=60)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("hf/config.json", "HF_CHECKPOINT: "),
        ("data/train.parquet", "slime-search prepare-data asearcher --output"),
    ],
)
@pytest.mark.parametrize("script", [GRPO, DISTILL])
def test_what_is_missing_is_named(
    script: str, missing: str, words: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / missing).unlink()
    done = run(script, environment=environment)
    assert done.returncode == 2 and words in done.stderr


def test_a_training_without_its_teacher_does_not_start(environment: dict[str, str], tmp_path: Path) -> None:
    path = with_gpu(tmp_path, environment)
    changed = environment | {
        "PATH": path,
        "TEACHER_URL": f"http://127.0.0.1:{free_port()}",
    }
    done = run(DISTILL, environment=changed)
    assert done.returncode == 2 and "start_teacher_server.sh" in done.stderr


def test_the_agents_dict_says_which_teacher_unless_the_environment_does(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for example in ("distillation", "search_r1"):
        shutil.copytree(EXAMPLE.parent / example, tmp_path / "examples" / example)
    own, url = tmp_path / "examples/distillation", f"http://127.0.0.1:{free_port()}"
    agent = own / "search_agent_with_teacher.py"
    agent.write_text(agent.read_text().replace("http://127.0.0.1:15555", url))
    changed = environment | {"PATH": with_gpu(tmp_path, environment)}
    told = subprocess.run([own / DISTILL], env=changed, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2 and f"{url}/v1/models is not answered" in told.stderr


@pytest.mark.parametrize("told", [{}, {"RETRIEVAL_SERVER_URL": "http://10.0.0.5:8001"}])
def test_the_agents_dict_says_where_to_search_unless_the_environment_does(
    told: dict[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    path = with_gpu(tmp_path, environment)
    name = "SLIME_SEARCH_LOCAL__SEARCH_URL"
    (tmp_path / "slime/train.py").write_text(f"import os; print(os.environ.get({name!r}))")
    plain = {key: value for key, value in environment.items() if key != name}
    done = run(GRPO, environment=plain | told | {"PATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("http://10.0.0.5:8001/retrieve" if told else "None")


class Guarded(BaseHTTPRequestHandler):
    """A teacher that asks for a key."""

    def do_GET(self) -> None:
        there = 200 if self.path == "/v1/models" else 404
        self.send_response(there if self.headers["Authorization"] == "Bearer s3cr3t" else 401)
        self.end_headers()


def test_a_teacher_that_asks_for_a_key_is_asked_with_it(environment: dict[str, str], tmp_path: Path) -> None:
    path = with_gpu(tmp_path, environment)
    server = HTTPServer(("127.0.0.1", 0), Guarded)
    Thread(target=server.serve_forever, daemon=True).start()
    changed = environment | {
        "PATH": path,
        "TEACHER_URL": f"http://127.0.0.1:{server.server_port}/v1",
    }
    try:
        with_key = run(DISTILL, environment=changed | {"SLIME_SEARCH_TEACHER__API_KEY": "s3cr3t"})
        without = run(DISTILL, environment=changed)
        slash = {"TEACHER_URL": f"{changed['TEACHER_URL']}/", "SLIME_SEARCH_TEACHER__API_KEY": "s3cr3t"}
        with_slash = run(DISTILL, environment=changed | slash)
    finally:
        server.shutdown()
        server.server_close()
    assert (with_key.returncode, with_slash.returncode) == (0, 0), with_key.stderr + with_slash.stderr
    assert without.returncode == 2 and "SLIME_SEARCH_TEACHER__API_KEY" in without.stderr


# The teacher's server.


def test_the_servers_command(environment: dict[str, str]) -> None:
    command = command_of(TEACHER, "--context-length", "9000", environment=environment)
    assert command[1:3] == ["-m", "sglang.launch_server"]
    expected = {
        "--port": "15555",
        "--tp": "2",
        "--host": "127.0.0.1",
        "--model-path": environment["TEACHER_CHECKPOINT"],
    }
    assert {option: value(command, option) for option in expected} == expected
    assert value(command, "--context-length") == "9000"
    changed = environment | {"TEACHER_ENGINE": "vllm", "TEACHER_TP": "4", "TEACHER_PORT": "9"}
    command = command_of(TEACHER, environment=changed)
    assert (value(command, "--tensor-parallel-size"), value(command, "--port")) == ("4", "9")


SERVER = """
import http.server, os, signal, subprocess, sys, time
folder = os.environ["STAND_IN"]
with open(f"{folder}/pids", "a") as pids:
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pids.write(f"{os.getpid()}\\n{worker.pid}\\n")
if os.path.exists(f"{folder}/broken"):
    sys.exit("no GPU here")
host, port = (sys.argv[sys.argv.index(option) + 1] for option in ("--host", "--port"))
refuses = "--api-key" in sys.argv
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response((401 if refuses else 200) if os.path.exists(f"{folder}/loaded") else 503)
        self.end_headers()
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture
def site(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An sglang whose server loads for as long as it is told, and has a worker process."""
    package = tmp_path / "packages/sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(SERVER)
    paths = {"PYTHONPATH": str(package.parent), "STAND_IN": str(tmp_path)}
    return environment | paths | {"TEACHER_PORT": str(free_port()), "STOP_TIMEOUT": "20"}


@contextmanager
def started(site: dict[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [EXAMPLE / TEACHER, *arguments],
        env=site,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        for pid in pids(site):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def pids(site: dict[str, str]) -> list[int]:
    path = Path(site["STAND_IN"]) / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_says_when_it_is_ready_and_ends_all_that_it_started(
    site: dict[str, str], number: signal.Signals, code: int
) -> None:
    with started(site) as process:
        assert process.stdout is not None
        assert "teacher: starting, log" in process.stdout.readline()
        wait_until(lambda: len(pids(site)) == 2)
        (Path(site["STAND_IN"]) / "loaded").touch()
        assert f"ready at http://127.0.0.1:{site['TEACHER_PORT']}" in process.stdout.readline()
        urllib.request.urlopen(f"http://127.0.0.1:{site['TEACHER_PORT']}/model_info", timeout=30).close()
        os.kill(process.pid, number)
        assert process.wait(timeout=60) == code
        wait_until(lambda: not any(map(alive, pids(site))))


@pytest.mark.parametrize(("host", "arguments"), [("127.0.0.2", ()), ("127.0.0.1", ("--api-key", "s3cr3t"))])
def test_it_is_found_ready_at_its_own_address_behind_a_key_and_past_the_environments_proxy(
    site: dict[str, str], host: str, arguments: tuple[str, ...]
) -> None:
    (Path(site["STAND_IN"]) / "loaded").touch()
    dead = {"http_proxy": f"http://127.0.0.1:{free_port()}"}
    with started(site | dead | {"TEACHER_HOST": host, "TEACHER_TIMEOUT": "20"}, *arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert f"ready at http://{host}:{site['TEACHER_PORT']}" in process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 143


def test_a_server_that_ends_shows_why(site: dict[str, str]) -> None:
    (Path(site["STAND_IN"]) / "broken").touch()
    done = run(TEACHER, environment=site)
    assert done.returncode == 1
    assert "ended before it was ready" in done.stderr and "no GPU here" in done.stderr
    wait_until(lambda: not any(map(alive, pids(site))))


def test_one_that_does_not_get_ready_is_ended(site: dict[str, str]) -> None:
    done = run(TEACHER, environment=site | {"TEACHER_TIMEOUT": "2"})
    assert done.returncode == 1 and "not ready after 2 seconds" in done.stderr
    wait_until(lambda: not any(map(alive, pids(site))))


def test_what_it_needs_is_named(site: dict[str, str], environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(site["TEACHER_PORT"])))
        taken.listen()
        done = run(TEACHER, environment=site)
    assert done.returncode == 2 and "TEACHER_PORT: " in done.stderr
    done = run(TEACHER, environment=environment | {"PYTHONPATH": ""})
    assert done.returncode == 2 and "sglang is not installed" in done.stderr
    assert run(TEACHER, environment=site | {"TEACHER_ENGINE": "x"}).returncode == 2
    (tmp_path / "teacher/config.json").unlink()
    done = run(TEACHER, environment=site)
    assert done.returncode == 2 and "TEACHER_CHECKPOINT: " in done.stderr
