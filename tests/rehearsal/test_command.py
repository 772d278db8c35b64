"""The command line: what is refused before anything starts, and what reaches a rehearsal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slime_search.cli.main import app
from slime_search.local.services import CPU_ENV
from slime_search.rehearsal.rehearsal import Rehearsal, RehearsalConfig
from slime_search.rehearsal.training import TrainingFailed, train

RUNNER = CliRunner()
VARIABLES = ("SLIME_HOME", "MEGATRON_HOME", "SLIME_PYTHON", "SGLANG_PYTHON")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command starts itself again only to get these."""
    for name, value in CPU_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[RehearsalConfig]:
    """The configs of rehearsals that would have run."""
    configs: list[RehearsalConfig] = []

    def run(self: Rehearsal) -> Mapping[str, Any]:
        configs.append(self.config)
        return {}

    monkeypatch.setattr(Rehearsal, "run", run)
    for name in VARIABLES:
        monkeypatch.setenv(name, f"/{name.lower()}")
    return configs


def test_options_and_flags_of_slime(seen: list[RehearsalConfig], tmp_path: Path) -> None:
    options = ["--recipe", "distill", "--seed", "3", "--output", str(tmp_path / "out"), "--async", "--ranks", "2"]
    result = RUNNER.invoke(app, ["rehearse", *options, "--", "--use-tis", "--eps-clip", "0.1"])
    assert result.exit_code == 0, result.output
    (config,) = seen
    assert config.slime_flags == ("--use-tis", "--eps-clip", "0.1")
    assert (config.steps, config.seed, config.ranks, config.script) == (24, 3, 2, "train_async")
    assert config.folder.policy == tmp_path / "out" / "policy"
    assert config.installed.slime_python == Path("/slime_python")


def test_fresh_removes_what_an_earlier_one_has_left(seen: list[RehearsalConfig], tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    assert RUNNER.invoke(app, ["rehearse", "--output", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "dumps").exists()
    assert RUNNER.invoke(app, ["rehearse", "--output", str(tmp_path), "--fresh"]).exit_code == 0
    assert not (tmp_path / "dumps").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "coda", "--dialect", "tools"], "--dialect tools: --recipe coda speaks tags only"),
        (["--red"], "--red: --recipe search-r1 has none"),
        (["--quickstart", "nowhere"], "no quickstart was finished there"),
        (["--recipe", "none.such"], "--recipe none.such: is not one of"),
    ],
)
def test_what_is_refused(seen: list[RehearsalConfig], options: list[str], message: str) -> None:
    result = RUNNER.invoke(app, ["rehearse", *options])
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert seen == []


def test_a_variable_that_is_missing(seen: list[RehearsalConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEGATRON_HOME")
    result = RUNNER.invoke(app, ["rehearse"])
    assert result.exit_code == 1 and "MEGATRON_HOME: not set" in result.output


def test_a_training_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$REHEARSAL_PROCESS"\necho "AssertionError: of slime"\nexit 3\n')
    python.chmod(0o755)
    with pytest.raises(TrainingFailed, match="exit code 3") as failed:
        train(python, ["--num-rollout", "1"], {"REHEARSAL_PROCESS": "trainer"}, log_path=tmp_path / "logs" / "log")
    assert str(failed.value).endswith("trainer\nAssertionError: of slime")


def test_a_failed_check_leaves_an_earlier_rehearsal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    earlier = tmp_path / "out" / "summary.json"
    earlier.parent.mkdir()
    earlier.write_text('{"em_after": 0.8}')
    for output in (earlier.parent, tmp_path / "new"):
        result = RUNNER.invoke(app, ["rehearse", "--output", str(output)])
        assert result.exit_code == 1
        assert "SLIME_HOME" in result.output
    assert earlier.read_text() == '{"em_after": 0.8}'
    assert not (tmp_path / "new").exists()
