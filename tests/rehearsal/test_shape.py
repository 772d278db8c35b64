import json
from pathlib import Path

import pytest
from transformers import Qwen2Config, Qwen3Config

from slime_search.errors import ConfigError
from slime_search.local.policy import build_model, build_tokenizer
from slime_search.local.world import WorldSize, invent_encyclopedia
from slime_search.rehearsal.shape import megatron_arguments, read_config


def value(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_of_the_quickstarts_policy(tmp_path: Path) -> None:
    size = WorldSize(people=30, towns=12, companies=12)
    tokenizer = build_tokenizer(invent_encyclopedia(7, size, size, size))
    build_model(tokenizer, 0).config.save_pretrained(tmp_path)
    arguments = megatron_arguments(read_config(tmp_path))
    assert value(arguments, "--num-layers") == "3"
    assert value(arguments, "--num-query-groups") == value(arguments, "--num-attention-heads") == "4"
    assert value(arguments, "--vocab-size") == str(len(tokenizer))
    assert value(arguments, "--rotary-base") == "1000000"
    assert value(arguments, "--model-name") == "qwen2"
    assert "--add-qkv-bias" in arguments and "--untie-embeddings-and-output-weights" not in arguments


def test_of_models_that_are_trained_on_gpus(tmp_path: Path) -> None:
    qwen = Qwen2Config(hidden_size=2048, num_attention_heads=16, num_key_value_heads=2, tie_word_embeddings=False)
    arguments = megatron_arguments(json.loads(qwen.to_json_string(use_diff=False)))
    assert value(arguments, "--num-query-groups") == "2"
    assert value(arguments, "--kv-channels") == "128"
    assert {"--add-qkv-bias", "--untie-embeddings-and-output-weights"} <= set(arguments)
    assert "--model-name" not in arguments
    qwen3 = megatron_arguments(json.loads(Qwen3Config(head_dim=64).to_json_string(use_diff=False)))
    assert value(qwen3, "--kv-channels") == "64"
    assert "--qk-layernorm" in qwen3 and "--add-qkv-bias" not in qwen3


def test_what_the_layer_does_not_compute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model_type = 'gpt2'"):
        megatron_arguments({"model_type": "gpt2"})
    with pytest.raises(ConfigError, match="mlp_bias"):
        megatron_arguments({"model_type": "llama", "mlp_bias": True})
    with pytest.raises(ConfigError, match=r"no config\.json"):
        read_config(tmp_path)
