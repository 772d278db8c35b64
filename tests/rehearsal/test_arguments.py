"""slime's command line for a rehearsal, and the files that it names."""

import importlib
import json
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from slime_search.errors import ConfigError
from slime_search.local.artifacts import Artifacts
from slime_search.rehearsal.arguments import Plan, as_script, slime_arguments
from slime_search.rehearsal.conversion import for_megatron
from slime_search.rehearsal.folder import RehearsalFolder
from slime_search.rehearsal.installation import Installation
from slime_search.rehearsal.recipes import MODULE, NAMES, rehearsed
from slime_search.rehearsal.training import training_environment
from tests.support.tiny_quickstart import leave_quickstart

ADDRESSES = {"local": {"search_url": "http://127.0.0.1:1/retrieve"}}
SECOND = {
    "distill": {"teacher": {"url": "http://127.0.0.1:2", "tokenizer": "/t", "clip": 5.0}},
    "thinker-searcher": {"searcher_url": "http://127.0.0.1:3/search"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RehearsalFolder:
    root = tmp_path_factory.mktemp("rehearsal")
    start = Artifacts(leave_quickstart(root / "start"))
    made = RehearsalFolder(root, start)
    for_megatron(start.cold_start_model, made.policy)
    return made


def arguments(folder: RehearsalFolder, recipe: str, *more: str) -> list[str]:
    plan = Plan(folder, rehearsed(recipe, None), 7, 3, engine_port=30001, router_port=30002, ranks=2)
    return slime_arguments(plan, more)


def values(arguments: list[str], flag: str) -> list[str]:
    return [after for before, after in pairwise(arguments) if before == flag]


def test_the_quickstarts_settings_and_the_ports_reach_slime(folder: RehearsalFolder) -> None:
    found = arguments(folder, "search-r1", "--num-rollout", "2", "--use-tis")
    assert values(found, "--rollout-external-engine-addrs") == ["127.0.0.1:30001"]
    assert values(found, "--sglang-router-port") == ["30002"]
    assert values(found, "--lr") == ["0.0002"]
    assert values(found, "--global-batch-size") == ["128"]
    assert values(found, "--rollout-batch-size") == ["16"]
    assert values(found, "--actor-num-gpus-per-node") == ["2"]
    # argparse takes the last.
    assert values(found, "--num-rollout") == ["7", "2"]
    assert found[-1] == "--use-tis"


@pytest.mark.parametrize("recipe", NAMES)
def test_a_recipe_has_a_module_with_hooks_and_a_config_that_it_takes(
    recipe: str, folder: RehearsalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = rehearsed(recipe, None)
    named.write(tmp_path, {**ADDRESSES, **SECOND.get(recipe, {})}, tmp_path / "none")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    module = importlib.import_module(MODULE)
    assert callable(module.generate) and callable(module.reward_func)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["slime_search"]
    assert type(module.recipe)(written).config().max_context_tokens == 1024
    found = arguments(folder, recipe)
    assert values(found, "--custom-generate-function-path") == [f"{MODULE}.generate"]
    assert ("--apply-chat-template" in found) is not named.calls_tools
    assert ("--use-opd" in found) is (recipe == "distill")
    named.write_questions(folder.start.data, folder)
    rows = pq.read_table(folder.test_questions).to_pylist()
    assert len(rows) == 24 and all(row["reward_model"]["ground_truth"]["target"] for row in rows)
    if named.calls_tools:
        assert json.loads(rows[0]["tools"]) == [tool.schema for tool in module.recipe.tools]
        assert values(found, "--tool-key") == ["tools"]


def test_tools_are_a_name_and_a_dialect() -> None:
    assert rehearsed("search-r1-tools", None) == rehearsed("search-r1", "tools")
    with pytest.raises(ConfigError, match="--dialect tools: --recipe coda speaks tags only"):
        rehearsed("coda", "tools")


def test_a_module_of_the_users_is_tried_on_the_policy_of_search_r1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('is not imported here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    named = rehearsed("mine", "tools")
    assert (named.module, named.source, named.calls_tools) == ("mine", None, True)
    named.write(tmp_path / "hooks", ADDRESSES, tmp_path / "none")
    assert [path.name for path in (tmp_path / "hooks").iterdir()] == ["config.yaml"]
    with pytest.raises(ConfigError, match=r"--recipe other: is not one of search-r1, .* nor a module on PYTHONPATH"):
        rehearsed("other", None)


def test_slimes_processes_find_slime_megatron_and_the_stand_ins_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/own")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    installed = Installation(Path("/s"), Path("/m"), Path("/p"), Path("/p"))
    environment = training_environment(installed, "/stand-ins", tensorboard=Path("/tb"), ranks=2, script="train_async")
    assert environment["PYTHONPATH"].split(os.pathsep) == ["/stand-ins", "/s", "/m", "/own"]
    assert (environment["REHEARSAL_DEVICES"], environment["OMP_NUM_THREADS"]) == ("3", "1")
    assert "127.0.0.1" in environment["no_proxy"]


def test_red_adds_its_hooks_and_one_rollout_for_the_demonstrations(folder: RehearsalFolder) -> None:
    plan = Plan(folder, rehearsed("coda", None, red=True), 7, 3, engine_port=30001, router_port=30002)
    found = slime_arguments(plan)
    assert values(found, "--global-batch-size") == ["129"]
    assert values(found, "--loss-type") == ["custom_loss"]
    with pytest.raises(ConfigError, match="--red: --recipe search-r1 has none; leave it out, or take --recipe coda"):
        rehearsed("search-r1", None, red=True)


def test_the_command_is_left_as_a_script_that_a_shell_reads(folder: RehearsalFolder) -> None:
    found = arguments(folder, "search-r1", "--tag", "two words")
    script = as_script("mine", found).splitlines()
    assert script[2] == "RECIPE=mine"
    assert "    --input-key prompt \\" in script
    words = shlex.split(" ".join(line.removesuffix("\\") for line in script[3:]))
    assert words == ["python3", "train.py", *found]
