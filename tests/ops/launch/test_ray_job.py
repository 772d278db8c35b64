"""A training on a real Ray head that runs already: what it is told, what Ray lists of it, and how it is stopped."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slime_search.errors import ConfigError
from slime_search.ops.launch.job_environment import plain, runtime_env, secrets
from slime_search.ops.launch.ray_job import check_address
from tests.ops.launch.launched import Site
from tests.support.processes import free_port, wait_until

ROOT = Path(__file__).parents[3]
SUBMIT = [sys.executable, "-m", "slime_search.ops.launch.ray_job"]
SECRETS = {
    "WANDB_API_KEY": "wandb-s3cr3t",
    "HF_TOKEN": "hf-s3cr3t",
    "SLIME_SEARCH_RETRIEVER_TOKEN": "retriever-s3cr3t",
    "https_proxy": "http://user:proxy-s3cr3t@127.0.0.1:9",
}
PLAIN = {"SLIME_SEARCH_TOPK": "7", "HF_HOME": "/somewhere", "http_proxy": "http://127.0.0.1:9"}
TOLD = [*SECRETS, *PLAIN]
EXPECTED = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in (SECRETS | PLAIN).items()}

# Digests, since what a job prints is listed as well.
WORKER = f"""
import json, sys
import ray

def digests():
    import hashlib, os
    return {{name: hashlib.sha256(os.environ.get(name, "").encode()).hexdigest() for name in {TOLD!r}}}

ray.init()
print(json.dumps({{"driver": digests(), "worker": ray.get(ray.remote(digests).remote())}}))
sys.exit(int(sys.argv[1]))
"""
SLEEPER = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (pathlib.Path(sys.argv[1]).write_text("stopped"), sys.exit(0)))
print("up", flush=True)
time.sleep(600)
"""


class Head:
    """A Ray head of the tests' own, with its dashboard."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard = free_port(), free_port()
        self.folder = folder
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
        # Its agent would take a fixed port, which another head may have.
        ports = [f"--port={self.port}", f"--dashboard-port={self.dashboard}", "--node-ip-address=127.0.0.1"]
        ports.append(f"--dashboard-agent-listen-port={free_port()}")
        self._process = subprocess.Popen(
            [*ray, *ports, f"--temp-dir={folder}", "--include-dashboard=true"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.url = f"http://127.0.0.1:{self.dashboard}"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ray = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        # Ray gives up its own processes where a loaded machine starts them slowly.
        ray |= {"RAY_agent_register_timeout_ms": "200000", "RAY_raylet_start_wait_time_s": "200"}
        return kept | ray | {"PYTHONPATH": str(ROOT), "PATH": path}

    def jobs(self) -> list[dict[str, object]]:
        import urllib.request

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/api/jobs/", timeout=30) as answer:
            found: list[dict[str, object]] = json.load(answer)
        return found

    def is_ready(self) -> bool:
        try:
            return self.jobs() is not None
        except OSError:
            return False

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    pytest.importorskip("ray.dashboard.modules.job.sdk")
    # Ray's sockets lie in there, whose paths may have 107 characters.
    folder = Path("/tmp") / f"ray-{os.getpid()}"
    head = Head(folder)
    try:
        wait_until(head.is_ready, 250)
        yield head
    finally:
        head.close()
        shutil.rmtree(folder, ignore_errors=True)


def submit(head: Head, code: str, *arguments: str, address: str | None = None) -> "subprocess.Popen[str]":
    script = head.folder / f"script-{abs(hash(code))}.py"
    script.write_text(code)
    environment = head.environment | SECRETS | PLAIN | {"RAY_ADDRESS": address or head.url, "STOP_TIMEOUT": "30"}
    return subprocess.Popen(
        [*SUBMIT, sys.executable, str(script), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("form", ["dashboard", "host:port"])
def test_what_the_hooks_read_arrives_and_secrets_are_not_listed(head: Head, form: str) -> None:
    before = {job["submission_id"] for job in head.jobs()}
    address = head.url if form == "dashboard" else f"127.0.0.1:{head.port}"
    process = submit(head, WORKER, "7", address=address)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 7, stdout + stderr
    (printed,) = [json.loads(line) for line in stdout.splitlines() if line.startswith('{"driver"')]
    assert printed == {"driver": EXPECTED, "worker": EXPECTED}
    (job,) = [job for job in head.jobs() if job["submission_id"] not in before]
    assert "SLIME_SEARCH_TOPK" in json.dumps(job)
    assert "s3cr3t" not in json.dumps(head.jobs())
    assert "s3cr3t" not in stderr


def test_a_training_that_joins_the_head_by_itself_has_them_too(head: Head) -> None:
    script = head.folder / "joins.py"
    script.write_text(WORKER)
    hook = f"{runtime_env.__module__}.{runtime_env.__name__}"
    environment = head.environment | SECRETS | PLAIN
    environment |= {"RAY_ADDRESS": f"127.0.0.1:{head.port}", "RAY_RUNTIME_ENV_HOOK": hook}
    done = subprocess.run(
        [sys.executable, str(script), "0"], env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    (printed,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"driver"')]
    assert printed["worker"] == EXPECTED
    assert "s3cr3t" not in json.dumps(head.jobs())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_job_and_waits_for_its_end(head: Head, number: signal.Signals, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = submit(head, SLEEPER, str(mark))
    assert process.stdout is not None
    assert any("up" in line for line in process.stdout)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 128 + number, stdout + stderr
    assert mark.read_text() == "stopped"
    assert not [job for job in head.jobs() if job["status"] in ("PENDING", "RUNNING")]


def test_ctrl_c_on_a_launched_run_ends_its_job_on_the_cluster_too(head: Head, site: Site) -> None:
    sleeper, mark = site.folder / "sleeper.py", site.folder / "mark"
    sleeper.write_text(SLEEPER)
    script = site.script("train.sh", f"exec {shlex.join([*SUBMIT, sys.executable, str(sleeper), str(mark)])}")
    ray = {name: head.environment[name] for name in ("PATH", "PYTHONPATH", "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE")}
    process = site.start(TRAIN_SCRIPT=script, RAY_ADDRESS=head.url, STOP_TIMEOUT="60", **ray)
    wait_until(lambda: "\nup\n" in site.log("training"))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=150)
    assert process.returncode == 130, stderr
    assert mark.read_text() == "stopped"
    assert "has ended" in site.log("training")
    assert not [job for job in head.jobs() if job["status"] in ("PENDING", "RUNNING")]
    site.assert_nothing_is_left()


def test_a_cluster_that_does_not_answer_is_named() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*SUBMIT, "true"], env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert f"Ray at {address}: no cluster answers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["auto", "head:6379", "[::1]:6379", "http://head:8265", "https://head"])
def test_every_form_of_an_address(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "local", "http://", "head:", "http://head/path"])
def test_what_is_no_address_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ConfigError, match="write auto, host:port"):
        check_address(address)


def test_what_is_listed_and_what_is_not() -> None:
    own = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "4", "TMUX": "x", "HOME": "/root", "WANDB_PROJECT": "p"}
    environment = (
        own | SECRETS | PLAIN | {"TOKENIZERS_PARALLELISM": "false", "SLIME_SEARCH_MAX_OBSERVATION_TOKENS": "9"}
    )
    assert secrets(environment) == SECRETS
    assert plain(environment) == PLAIN | {
        "WANDB_PROJECT": "p",
        "TOKENIZERS_PARALLELISM": "false",
        "SLIME_SEARCH_MAX_OBSERVATION_TOKENS": "9",
    }
