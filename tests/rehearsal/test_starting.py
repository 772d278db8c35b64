"""The policy that a rehearsal starts from is made once."""

from pathlib import Path

import pytest
from rich.console import Console

from slime_search.errors import ConfigError
from slime_search.local.presets import SEARCH_R1, preset_of
from slime_search.rehearsal.starting import make_start, start_of
from tests.support.tiny_quickstart import leave_quickstart


def test_a_quickstarts_policy_is_taken_as_it_was_before_its_grpo(tmp_path: Path) -> None:
    quickstart = leave_quickstart(tmp_path / "quickstart")
    folder = start_of(tmp_path / "rehearsal", quickstart)
    said: list[str] = []
    make_start(folder, SEARCH_R1, seed=0, steps=None, console=Console(quiet=True), say=said.append)
    assert said == [f"The policy of {quickstart} is used again."]
    assert (folder.policy / "config.json").exists() and not (tmp_path / "rehearsal" / "start").exists()


def test_another_seed_or_recipe_is_refused(tmp_path: Path) -> None:
    folder = start_of(tmp_path, leave_quickstart(tmp_path / "quickstart"))

    def start(dialect: str, seed: int) -> None:
        preset = preset_of("search-r1", dialect)
        make_start(folder, preset, seed=seed, steps=None, console=Console(quiet=True), say=lambda text: None)

    with pytest.raises(ConfigError, match="the policy there has seed 0, and 1 is asked for"):
        start("tags", 1)
    with pytest.raises(ConfigError, match="has dialect tags, and tools is asked for"):
        start("tools", 0)
    assert not folder.policy.exists()


def test_a_folder_without_a_quickstart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--quickstart .*: no quickstart was finished there"):
        start_of(tmp_path / "rehearsal", tmp_path)


def test_forgetting_keeps_the_policy(tmp_path: Path) -> None:
    folder = start_of(tmp_path, leave_quickstart(tmp_path / "start"))
    for path in (folder.dumps / "0.pt", folder.checkpoints / "latest_checkpointed_iteration.txt", folder.summary):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["start"]
    assert folder.start.cold_start_model.exists()


def test_a_folder_goes_on_from_what_it_was_rehearsed_with(tmp_path: Path) -> None:
    quickstarts = [leave_quickstart(tmp_path / name) for name in ("one", "two")]

    def start(quickstart: Path) -> None:
        folder = start_of(tmp_path / "rehearsal", quickstart)
        make_start(folder, SEARCH_R1, seed=0, steps=None, console=Console(quiet=True), say=lambda text: None)

    start(quickstarts[0])
    start(quickstarts[0])
    with pytest.raises(ConfigError, match=r"was rehearsed with start .*one, and .*two is asked for"):
        start(quickstarts[1])


def test_a_policy_whose_conversion_was_interrupted_is_converted_again(tmp_path: Path) -> None:
    folder = start_of(tmp_path / "rehearsal", leave_quickstart(tmp_path / "quickstart"))
    folder.policy.mkdir(parents=True)
    (folder.policy / "config.json").write_text("{}")
    make_start(folder, SEARCH_R1, seed=0, steps=None, console=Console(quiet=True), say=lambda text: None)
    assert list(folder.policy.glob("*.safetensors"))


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    quickstart = leave_quickstart(tmp_path / "quickstart")
    (quickstart / "summary.json").write_text('{"seed": 0')
    with pytest.raises(ConfigError, match=r"summary.json: is damaged"):
        start_of(tmp_path / "rehearsal", quickstart)
