"""The policies that come with the package: what they are, and that their command makes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slime_search.local.policy import build_model, build_tokenizer
from slime_search.local.policy_format import POLICY_FORMATS
from slime_search.local.presets import preset_of
from slime_search.local.starts import SHIPPED, WORLD_SEED, shipped_start
from slime_search.local.world import invent_encyclopedia

MOST_BYTES = 4_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes when it teaches for two steps."""
    output = tmp_path_factory.mktemp("starts")
    command = [sys.executable, "-m", "slime_search.local.starts", "--output", str(output), "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dialect", POLICY_FORMATS)
def test_the_command_makes_what_is_shipped(dialect: str, made: Path) -> None:
    assert files(made) == files(SHIPPED)
    for name in ("tokenizer.json", "chat_template.jinja", "config.json"):
        new, shipped = ((folder / dialect / name).read_text() for folder in (made, SHIPPED))
        if name == "config.json":
            new, shipped = ({**json.loads(text), "transformers_version": ""} for text in (new, shipped))
        assert new == shipped
    new, shipped = (load_file(folder / dialect / "model.safetensors") for folder in (made, SHIPPED))
    assert {key: (value.shape, value.dtype) for key, value in new.items()} == {
        key: (value.shape, torch.float16) for key, value in shipped.items()
    }


@pytest.mark.parametrize("dialect", POLICY_FORMATS)
def test_it_was_taught_from_the_weights_of_its_seed(dialect: str) -> None:
    """Imitation moves each matrix of the fresh model, and none so far that it would be another model's."""
    preset = preset_of("search-r1", dialect)
    tokenizer = build_tokenizer(invent_encyclopedia(WORLD_SEED), preset.policy_format)
    fresh = build_model(tokenizer, WORLD_SEED).state_dict()
    other = build_model(tokenizer, WORLD_SEED + 1).state_dict()
    for key, taught in load_file(SHIPPED / dialect / "model.safetensors").items():
        if taught.dim() == 2:
            moved = (taught.float() - fresh[key]).norm()
            assert 0 < moved < (taught.float() - other[key]).norm(), key


def test_they_stay_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < MOST_BYTES


def test_other_recipes_are_taught_where_they_run() -> None:
    assert shipped_start(preset_of("coda", None)) is None
    start = shipped_start(preset_of("search-r1", "tools"))
    assert start is not None
    assert start.folder.name == "tools"
