"""The Thinker's training command through slime's own ``parse_args``, as those of the other run scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from slime_stack.test_run_script_arguments import QWEN_3B, Home, Parse, parse, understood

__all__ = ["parse"]

SCRIPT = "thinker_searcher/train_hierarchical_grpo.sh"
TWO_MODELS = Path(__file__).parents[2] / "examples/thinker_searcher/two_models.yaml"
QWEN_HALF = QWEN_3B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
}


@pytest.fixture
def thinker_home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    (tmp_path / "hf/config.json").write_text(json.dumps(QWEN_HALF))
    return home


def arguments(parse: Parse, home: Home, *options: str, **variables: str) -> dict[str, Any]:
    call = home.call(SCRIPT, *options, **variables)
    assert call["command"][:2] == ["-m", "slime_search.hooks.stoppable"]
    answer = parse({**call, "command": call["command"][2:]})
    assert answer["hooks"]["custom_generate_function_path"]
    return understood(answer)


def test_slime_understands_every_option(parse: Parse, thinker_home: Home) -> None:
    args = arguments(parse, thinker_home)
    expected = {
        "colocate": True,
        "world_size": 1,
        "rollout_num_gpus": 1,
        "num_gpus_per_node": 1,
        "tensor_model_parallel_size": 1,
        "num_layers": 24,
        "rollout_max_response_len": 300,
        "rollout_max_context_len": 2048,
        "save_interval": 100,
        "custom_generate_function_path": "generate_with_thinker.generate",
        "eval_max_response_len": 300,
        "sglang_config": None,
    }
    assert {name: args[name] for name in expected} == expected


def test_with_slimes_second_model(slime_home: Path, parse: Parse, thinker_home: Home) -> None:
    from slime.backends.sglang_utils.sglang_config import SglangConfig

    args = arguments(parse, thinker_home, SEARCHER_GPU="1", SGLANG_CONFIG=str(TWO_MODELS))
    config = SglangConfig.from_yaml(args["sglang_config"])
    assert config.total_num_gpus == args["rollout_num_gpus"] == 2
    assert [(model.name, model.update_weights) for model in config.models] == [("actor", True), ("searcher", False)]
    assert (args["world_size"], args["num_gpus_per_node"]) == (1, 2)


def test_it_goes_on_where_it_was(parse: Parse, thinker_home: Home) -> None:
    first = arguments(parse, thinker_home)
    assert (first["load"], first["finetune"]) == (first["ref_load"], True)
    saved = thinker_home.folder / "saved"
    saved.mkdir()
    (saved / "latest_checkpointed_iteration.txt").write_text("99")
    again = arguments(parse, thinker_home)
    assert (again["load"], again["finetune"]) == (str(saved), False)
