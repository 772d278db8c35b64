"""The launcher's windows in real tmux, whatever the user's login shell is, and what they leave behind."""

import os
import shutil
from pathlib import Path

import pytest

from slime_search.ops.launch import tmux
from slime_search.ops.launch.settings import Command
from tests.ops.launch.launched import Site
from tests.support.processes import wait_until

OTHERS = [shell for shell in ("tcsh", "fish", "csh", "zsh", "dash") if shutil.which(shell)]
WORDS = ["two words", "semi;colon", "end;", ";", "quote'", '"', "$HOME", "`id`", "#{pane_id}", "*", "\\", "", "日本"]


def no_shell(folder: Path) -> str:
    """A login shell that takes no command, such as ``nologin``."""
    path = folder / "no-shell"
    path.write_text("#!/bin/sh\necho 'this account is not available' >&2\nexit 1\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name: str = request.param
    return no_shell(tmp_path) if name == "none" else str(shutil.which(name))


@pytest.mark.parametrize("shell", ["none", *OTHERS], indirect=True)
def test_every_login_shell_runs_the_retriever_and_the_training(site: Site, shell: str) -> None:
    kept = site.folder / "temporary"
    kept.mkdir()
    script = site.script("train.sh", 'printf "<%s>" "$@"; echo; echo "key of ${#SERPER_API_KEY}"')
    variables = {"SHELL": shell, "TMPDIR": str(kept), "SERPER_API_KEY": "k3y", "TRAIN_SCRIPT": script}
    process = site.start("--", *WORDS, **variables)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert "".join(f"<{word}>" for word in WORDS) in site.log("training")
    assert "key of 3" in site.log("training")
    assert list(kept.iterdir()) == []
    site.assert_nothing_is_left()


def test_a_window_that_never_ran_leaves_no_environment_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """tmux refuses the session, because there is one of that name."""
    kept = site.folder / "temporary"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    monkeypatch.setenv("TMUX_TMPDIR", site.environment["TMUX_TMPDIR"])
    site.tmux("new-session", "-d", "-s", "taken", "sleep 600")
    with pytest.raises(tmux.TmuxError):
        tmux.start_session("taken", "owner", "window", Command(["true"]), site.folder / "log")
    assert list(kept.iterdir()) == []


def test_a_variable_that_bash_does_not_let_anyone_set_is_no_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX_TMPDIR", site.environment["TMUX_TMPDIR"])
    for name, value in {"UID": "7", "SHELLOPTS": "braceexpand", "NAME_X": "x\n'y'"}.items():
        monkeypatch.setenv(name, value)
    log = site.folder / "log"
    pane = tmux.start_session("some", "owner", "window", Command(["sh", "-c", 'echo "[$NAME_X]"']), log)
    wait_until(lambda: tmux.exit_code(pane) == 0)
    wait_until(lambda: log.exists() and log.read_text() == "[x\n'y']\n")
    assert not pane.environment.exists()
    assert os.environ["UID"] == "7"
