"""A run with more than one service, through a front door of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slime_search.transport.readiness import ask
from tests.ops.launch.launched import Site
from tests.support.processes import free_port, wait_until

FRONT_DOOR = [sys.executable, str(Path(__file__).with_name("other_run.py"))]
SESSION = "other-run"


@pytest.fixture
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


def start(site: Site, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return site.start(*arguments, program=FRONT_DOOR, **variables)


def pid_of(site: Site, window: str) -> int:
    return int(site.tmux("list-panes", "-t", f"={SESSION}:{window}", "-F", "#{pane_pid}"))


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode()


def test_every_service_is_ready_when_the_training_starts(site: Site, url: str) -> None:
    script = site.script(
        "train.sh", 'curl --noproxy "*" -fsS "$ENGINE" >/dev/null && echo "served ${ONLY_THERE:-nothing}"; sleep 600'
    )
    process = start(site, ENGINE_URL=url, TRAIN_SCRIPT=script)
    wait_until(lambda: "served nothing" in site.log("training"))
    windows = site.tmux("list-windows", "-t", f"={SESSION}", "-F", "#{window_name}").split()
    assert windows == ["retriever", "engine", "training"]
    assert "ONLY_THERE=yes it is" in environment_of(pid_of(site, "engine"))
    assert "ONLY_THERE" not in environment_of(pid_of(site, "retriever"))
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    site.assert_nothing_is_left()


@pytest.mark.parametrize("dies", ["retriever", "engine"])
def test_any_service_that_dies_ends_the_run(site: Site, url: str, dies: str) -> None:
    process = start(site, ENGINE_URL=url, TRAIN_SCRIPT=site.script("train.sh", "echo up; sleep 600"))
    wait_until(lambda: "up" in site.log("training"))
    os.kill(pid_of(site, dies), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"the {dies} ended with code 137 during the training" in stderr
    site.assert_nothing_is_left()


def test_a_service_that_dies_is_noticed_while_another_is_waited_for(site: Site, url: str) -> None:
    os.mkfifo(site.folder / "fifo")
    process = start(
        site,
        ENGINE_URL=url,
        TRAIN_SCRIPT=site.script("train.sh", "true"),
        CORPUS_PATH=str(site.folder / "fifo"),
    )
    wait_until(lambda: site.tmux("list-panes", "-t", f"={SESSION}:engine", "-F", "#{pane_pid}"))
    os.kill(pid_of(site, "engine"), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the engine ended with code 137 before all was ready" in stderr
    site.assert_nothing_is_left()


def test_the_service_that_is_late_is_named_with_its_own_limit_and_log(site: Site, url: str) -> None:
    process = start(
        site,
        ENGINE_URL=url,
        ENGINE_READY_PATH="/never",
        ENGINE_TIMEOUT="3",
        TRAIN_SCRIPT=site.script("train.sh", "true"),
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"engine: {url} was not ready after 3 s: answers HTTP 404; set ENGINE_TIMEOUT" in stderr
    assert "GET /never" in stderr
    assert site.log("training") == ""
    site.assert_nothing_is_left()


def test_somebody_elses_services_are_asked_and_left_running(site: Site, url: str) -> None:
    with a_strangers_server(url) as stranger:
        elsewhere = url.replace("127.0.0.1", "127.0.0.2")
        process = start(site, ENGINE_URL=elsewhere, TRAIN_SCRIPT=site.script("train.sh", "exit 3"))
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 3, stderr
        assert stranger.poll() is None
    assert site.log("engine") == ""
    site.assert_nothing_is_left()


def test_the_dry_run_prints_every_command(site: Site, url: str) -> None:
    script = site.script("train.sh", "true")
    process = start(site, "--dry-run", "--", "--steps", "2", ENGINE_URL=url, TRAIN_SCRIPT=script)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    retriever, engine, training = stdout.splitlines()
    assert "slime_search.cli serve-retriever" in retriever
    assert engine.startswith("ONLY_THERE='yes it is' ")
    assert training.endswith(f"/retrieve ENGINE={url} {script} --steps 2")


def test_every_port_is_checked(site: Site, url: str) -> None:
    with a_strangers_server(url):
        process = start(site, ENGINE_URL=url, TRAIN_SCRIPT=site.script("train.sh", "true"))
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is taken; set ENGINE_URL=http://127.0.0.1:" in stderr
    assert site.sessions() == []


@contextmanager
def a_strangers_server(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """On all addresses of this machine."""
    line = [sys.executable, "-m", "http.server", url.rpartition(":")[2]]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as stranger:
        try:
            wait_until(lambda: ask(url).ready)
            yield stranger
        finally:
            stranger.terminate()


def test_stop_ends_it(site: Site, url: str) -> None:
    process = start(site, ENGINE_URL=url, TRAIN_SCRIPT=site.script("train.sh", "echo up; sleep 600"))
    wait_until(lambda: "up" in site.log("training"))
    stopped = start(site, "--stop", ENGINE_URL=url)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 0, said
    assert process.wait(30) == 143
    site.assert_nothing_is_left()
