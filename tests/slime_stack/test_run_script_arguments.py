"""The run scripts' commands through slime's own ``parse_args``, with Megatron's and SGLang's arguments.

``SLIME_HOME`` and ``MEGATRON_HOME`` name the checkouts. ``SLIME_PYTHON`` may name a Python that has all that slime's
``train.py`` imports; in this one, SGLang's own arguments are a stand-in.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slime_stack.run_scripts import EXAMPLES, QWEN_3B, SCRIPTS, Home

Answer = dict[str, Any]
Parse = Callable[[dict[str, Any]], Answer]

SEARCH_R1 = [script for script in SCRIPTS if script.startswith("search_r1/")]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parse]:
    """slime's parser, which checks the model's config, folders and functions too."""
    megatron = os.environ.get("MEGATRON_HOME")
    if not megatron:
        pytest.skip("set MEGATRON_HOME to a checkout of Megatron-LM, at the commit in slime's docker/Dockerfile")
    log = tmp_path_factory.mktemp("parser") / "log"
    path = [megatron, os.environ["SLIME_HOME"], os.environ.get("PYTHONPATH", "")]
    python = os.environ.get("SLIME_PYTHON", sys.executable)
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [python, Path(__file__).with_name("argument_parser.py")],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as parser,
    ):
        assert parser.stdin is not None and parser.stdout is not None
        asked, answered = parser.stdin, parser.stdout

        def answer(call: dict[str, Any]) -> Answer:
            asked.write(json.dumps(call) + "\n")
            asked.flush()
            line = answered.readline()
            assert line, f"the parser's process ended:\n{log.read_text()[-3000:]}"
            return dict(json.loads(line))

        yield answer
        asked.close()


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Home:
    """Of the script that the test is run for, or of Search-R1 with tags."""
    parameters = getattr(request.node, "callspec", None)
    return Home(tmp_path, parameters.params["script"] if parameters else SEARCH_R1[0])


def understood(answer: Answer) -> dict[str, Any]:
    assert "error" not in answer, answer["error"]
    assert answer["unknown"] == []
    return dict(answer["args"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_slime_understands_every_option(parse: Parse, home: Home, script: str) -> None:
    call = home.call()
    assert call["command"] == home.printed()
    answer = parse(call)
    args = understood(answer)
    expected = SCRIPTS[script].expected
    assert {name: args[name] for name in expected} == expected
    assert {name for name in expected if name.endswith("_path")} <= answer["hooks"].keys()
    assert args["ref_load"] == str(home.folder / "hf_torch_dist")


def test_an_option_that_nobody_knows_is_found(parse: Parse, home: Home) -> None:
    answer = parse(home.call("--no-such-option", "--sglang-nor-this", "1"))
    assert answer["unknown"] == ["--no-such-option", "--sglang-nor-this"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_test_sets_are_evaluated(parse: Parse, home: Home, script: str) -> None:
    args = understood(parse(home.call(EVAL_INTERVAL="7")))
    tests = home.folder / "data/test"
    assert args["eval_interval"] == 7
    assert args["eval_prompt_data"] == ["hotpotqa", f"{tests}/hotpotqa.parquet", "nq", f"{tests}/nq.parquet"]
    assert args["eval_temperature"] == 0
    assert args["eval_max_response_len"] == args["rollout_max_response_len"]
    assert args["eval_max_context_len"] == args["rollout_max_context_len"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_test_sets_nothing_is_evaluated(parse: Parse, home: Home, script: str) -> None:
    for file in (home.folder / "data/test").iterdir():
        file.unlink()
    assert understood(parse(home.call()))["eval_interval"] is None


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_interrupted_run_goes_on_where_it_was(parse: Parse, home: Home, script: str) -> None:
    first = understood(parse(home.call()))
    assert (first["load"], first["finetune"], first["start_rollout_id"]) == (first["ref_load"], True, 0)
    saved = home.folder / "saved"
    saved.mkdir()
    (saved / "latest_checkpointed_iteration.txt").write_text("99")
    again = understood(parse(home.call()))
    assert (again["load"], again["finetune"], again["start_rollout_id"]) == (str(saved), False, None)
    assert not again["no_load_optim"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_tis_uses_slimes_own_config(parse: Parse, home: Home, script: str) -> None:
    answer = parse(home.call(USE_TIS="1"))
    args = understood(answer)
    assert args["use_tis"] is True
    assert "compute_mis_weights_with_cp" in answer["hooks"]["custom_tis_function_path"]
    assert args["tis_mode"]


@pytest.mark.parametrize("script", SEARCH_R1)
def test_what_is_overridden(parse: Parse, home: Home, script: str) -> None:
    variables = {"TP": "1", "NUM_GPUS": "2", "LR": "2e-6", "WANDB_PROJECT": "p", "MAX_CONTEXT_LEN": "4096"}
    args = understood(parse(home.call("--num-rollout", "5", **variables)))
    expected = {
        "tensor_model_parallel_size": 1,
        "world_size": 2,
        "rollout_num_gpus": 2,
        "lr": 2e-6,
        "num_rollout": 5,
        "use_wandb": True,
        "wandb_project": "p",
        "rollout_max_context_len": 4096,
    }
    assert {name: args[name] for name in expected} == expected


@pytest.mark.parametrize("script", ["thinker_searcher/train_hierarchical_grpo.sh"])
def test_a_second_model_beside_the_policy(slime_home: Path, parse: Parse, home: Home, script: str) -> None:
    from slime.backends.sglang_utils.sglang_config import SglangConfig

    config = EXAMPLES / "thinker_searcher/two_models.yaml"
    args = understood(parse(home.call(SGLANG_CONFIG=str(config), TRAIN_GPUS="0,1", SEARCHER_GPU="2")))
    assert args["sglang_config"] == str(config)
    models = SglangConfig.from_yaml(str(config)).models
    assert [(model.name, model.update_weights) for model in models] == [("actor", True), ("searcher", False)]
    assert (args["world_size"], args["rollout_num_gpus"], args["num_gpus_per_node"]) == (2, 3, 3)


def test_the_conversions_own_parser_takes_its_command(parse: Parse, home: Home) -> None:
    call = home.call(script="search_r1/convert_model.sh", REF_LOAD=str(home.folder / "new"))
    args = understood(parse(call))
    assert (args["hf_checkpoint"], args["save"]) == (str(home.folder / "hf"), str(home.folder / "new"))
    assert args["num_layers"] == QWEN_3B["num_hidden_layers"]
    assert args["pipeline_model_parallel_size"] == 1
