"""``run_with_retrieval.sh`` in real tmux: what it starts, its exit code, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.launch.launched import Site
from tests.support.processes import free_port, wait_until

SEARCH = """
curl --noproxy "*" -fsS -H 'Content-Type: application/json' -d '{"queries": ["title"], "topk": 1}' \
    "$SLIME_SEARCH_LOCAL__SEARCH_URL"
echo "given: $*"
"""


def test_the_training_searches_and_its_code_comes_back(site: Site) -> None:
    process = site.start("--", "--steps", "5", TRAIN_SCRIPT=site.script("train.sh", f"{SEARCH}\nexit 7"))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    training = site.log("training")
    assert '"contents":' in training.replace(" ", "")
    assert "given: --steps 5" in training
    assert "retriever ready at" in site.log("retrieval_server")
    assert "training ended with code 7" in stderr
    site.assert_nothing_is_left()


def test_a_retriever_that_never_gets_ready_is_given_up_with_the_end_of_its_log(site: Site) -> None:
    os.mkfifo(site.folder / "fifo")
    script = site.script("train.sh", "touch started")
    process = site.start(TRAIN_SCRIPT=script, CORPUS_PATH=str(site.folder / "fifo"), RETRIEVAL_TIMEOUT="4")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was not ready after 4 s" in stderr
    assert "RETRIEVAL_TIMEOUT" in stderr
    assert site.log("training") == ""
    site.assert_nothing_is_left()


def test_a_retriever_that_fails_says_why(site: Site) -> None:
    (site.folder / "corpus.jsonl").write_text("no json\n")
    process = site.start(TRAIN_SCRIPT=site.script("train.sh", "true"))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the retriever ended with code 1" in stderr
    assert "corpus.jsonl, line 1: not valid JSON" in stderr
    site.assert_nothing_is_left()


def test_a_retriever_that_dies_ends_the_training(site: Site) -> None:
    process = site.start(TRAIN_SCRIPT=site.script("train.sh", "echo up; sleep 600"))
    wait_until(lambda: "up" in site.log("training"))
    (server,) = site.tmux("list-panes", "-t", "=slime-search-r1:retriever", "-F", "#{pane_pid}").split()
    os.kill(int(server), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the retriever ended with code 137 during the training" in stderr
    site.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["waiting for the retriever", "training"])
def test_a_signal_ends_what_was_started(site: Site, stage: str, number: signal.Signals) -> None:
    variables = {"TRAIN_SCRIPT": site.script("train.sh", "trap '' INT; echo up; sleep 600")}
    if stage != "training":
        os.mkfifo(site.folder / "fifo")
        variables["CORPUS_PATH"] = str(site.folder / "fifo")
    process = site.start(**variables)
    wait_until(lambda: "up" in site.log("training") if stage == "training" else site.sessions())
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    site.assert_nothing_is_left()


def test_what_does_not_end_is_killed(site: Site) -> None:
    script = site.script("train.sh", "trap '' TERM INT HUP; echo up; while true; do sleep 0.2; done")
    process = site.start(TRAIN_SCRIPT=script, STOP_TIMEOUT="1")
    wait_until(lambda: "up" in site.log("training"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    site.assert_nothing_is_left()


def test_two_runs_side_by_side_do_not_touch_each_other(site: Site) -> None:
    script = site.script(
        "train.sh", f"echo up $1; until [[ -e {site.folder}/ask-$1 ]]; do sleep 0.1; done; echo still up $1; sleep 600"
    )
    first = site.start("--", "one", TRAIN_SCRIPT=script)
    url = f"http://127.0.0.1:{free_port()}"
    second = site.start("--", "two", TRAIN_SCRIPT=script, SESSION_NAME="other", RETRIEVAL_SERVER_URL=url)
    stranger = subprocess.Popen(["sleep", "600"])
    site.tmux("new-session", "-d", "-s", "somebody-elses", "sleep 600")
    try:
        wait_until(lambda: "up one" in site.log("training") and "up two" in site.log("training"))
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=60)
        assert sorted(site.sessions()) == ["other", "somebody-elses"]
        (site.folder / "ask-two").touch()
        wait_until(lambda: "still up two" in site.log("training"))
        assert second.poll() is None
        stopped = site.start("--stop", SESSION_NAME="other")
        _, said = stopped.communicate(timeout=60)
        assert stopped.returncode == 0, said
        assert second.wait(30) == 143
        assert site.sessions() == ["somebody-elses"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_session_whose_watcher_was_killed_can_be_stopped(site: Site) -> None:
    watcher = site.start(TRAIN_SCRIPT=site.script("train.sh", "echo up; sleep 600"))
    wait_until(lambda: "up" in site.log("training"))
    watcher.kill()
    watcher.communicate(timeout=60)
    assert site.sessions() == ["slime-search-r1"]
    stopped = site.start("--stop")
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 0
    assert "its watcher is gone" in said
    site.assert_nothing_is_left()


def test_a_session_of_that_name_is_left_alone(site: Site) -> None:
    site.tmux("new-session", "-d", "-s", "slime-search-r1", "sleep 600")
    for arguments in ([], ["--stop"]):
        process = site.start(*arguments, TRAIN_SCRIPT=site.script("train.sh", "true"))
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (1, 2)
        assert "slime-search-r1" in stderr
    assert site.sessions() == ["slime-search-r1"]


def test_everything_that_is_missing_is_named_at_once(site: Site, tmp_path: Path) -> None:
    port = site.environment["RETRIEVAL_SERVER_URL"].rpartition(":")[2]
    variables = {"TRAIN_SCRIPT": "/no/script", "CORPUS_PATH": "/no/corpus", "INDEX_PATH": "/no/index"}
    with subprocess.Popen(["python3", "-m", "http.server", port, "--bind", "127.0.0.1"], cwd=tmp_path) as taken:
        wait_until(lambda: not site.port_is_free())
        process = site.start(RETRIEVER_NAME="e5", **variables)
        _, stderr = process.communicate(timeout=60)
        taken.terminate()
    assert process.returncode == 2
    for words in (
        "TRAIN_SCRIPT: /no/script",
        "CORPUS_PATH: /no/corpus",
        "INDEX_PATH: /no/index",
        f"port {port} is taken",
    ):
        assert words in stderr
    assert site.sessions() == []


def test_a_server_elsewhere_is_asked_and_not_started(site: Site) -> None:
    process = site.start(
        TRAIN_SCRIPT=site.script("train.sh", "true"),
        RETRIEVAL_SERVER_URL="http://retriever.invalid:8000/retrieve",
        RETRIEVAL_TIMEOUT="1",
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "http://retriever.invalid:8000 was not ready after 1 s" in stderr
    assert site.log("retrieval_server") == ""


def test_a_dry_run_prints_the_commands_and_starts_nothing(site: Site) -> None:
    script = site.script("train.sh", "true")
    process = site.start("--dry-run", TRAIN_SCRIPT=script, RETRIEVER_OPTIONS="--topk 5")
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    retriever, training = stdout.splitlines()
    assert "-m slime_search.cli serve-retriever --retriever_name bm25" in retriever
    assert retriever.endswith("--topk 5")
    assert training == f"SLIME_SEARCH_LOCAL__SEARCH_URL={site.environment['RETRIEVAL_SERVER_URL']}/retrieve {script}"
    assert site.sessions() == []


def test_a_dry_run_prints_the_commands_beside_what_is_missing(site: Site) -> None:
    process = site.start("--dry-run", TRAIN_SCRIPT=site.script("train.sh", "true"), CORPUS_PATH="/no/corpus")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "CORPUS_PATH: /no/corpus does not exist" in stderr
    assert "--corpus_path /no/corpus" in stdout


@pytest.mark.parametrize("url", ["https://127.0.0.1:8443", "http://127.0.0.1:8000/api"])
def test_a_server_that_could_not_be_started_so_is_refused(site: Site, url: str) -> None:
    process = site.start("--dry-run", RETRIEVAL_SERVER_URL=url)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"RETRIEVAL_SERVER_URL: {url}: the server that is started here speaks plain HTTP" in stderr


def test_a_setting_that_does_not_fit_is_named(site: Site) -> None:
    process = site.start(
        "--dry-run", RETRIEVAL_TIMEOUT="soon", RETRIEVAL_SERVER_URL="8000", SESSION_NAME="a.b", RETRIEVER_NAME="bm26"
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    for words in (
        "RETRIEVAL_TIMEOUT = 'soon': expected is a number",
        "RETRIEVAL_SERVER_URL = '8000': write a URL",
        "SESSION_NAME = 'a.b': a tmux session's name has no blank",
        "RETRIEVER_NAME = 'bm26': expected is one of bm25, e5",
    ):
        assert words in stderr
    assert "pattern" not in stderr


def test_a_ray_address_that_is_none_is_found_before_the_start(site: Site) -> None:
    process = site.start("--dry-run", RAY_ADDRESS="foo")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "RAY_ADDRESS: 'foo' is not an address of a Ray cluster; write auto" in stderr


def test_what_is_not_set_is_said_to_be_so(site: Site) -> None:
    program = (sys.executable, "-m", "slime_search.cli", "launch", "search-r1")
    site.environment.pop("CORPUS_PATH")
    process = site.start("--dry-run", program=program, RETRIEVER_NAME="e5")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    for name in ("TRAIN_SCRIPT", "CORPUS_PATH", "INDEX_PATH"):
        assert f"{name}: not set; name " in stderr
    assert "None" not in stderr


def test_secrets_are_in_no_command_line_log_or_file(site: Site) -> None:
    script = site.script("train.sh", "echo up ${#SERPER_API_KEY}; sleep 600")
    process = site.start(TRAIN_SCRIPT=script, SERPER_API_KEY="s3cr3t-k3y", TMPDIR=str(site.folder))
    wait_until(lambda: "up 10" in site.log("training"))
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"s3cr3t-k3y" in command for command in commands)
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    assert not any(b"s3cr3t-k3y" in path.read_bytes() for path in files)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
