"""A policy's shape as Megatron's arguments, read from the ``config.json`` of its Hugging Face folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slime_search.errors import ConfigError

_FAMILIES = ("llama", "qwen2", "qwen3")


def read_config(folder: Path) -> Mapping[str, Any]:
    """Raises ConfigError where the folder has no ``config.json``."""
    try:
        config: Mapping[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: has no config.json that can be read ({error})", "name a model's folder") from None
    return config


def megatron_arguments(config: Mapping[str, Any]) -> list[str]:
    """What slime's ``scripts/models`` say of large models, for one of this shape.

    Raises:
        ConfigError: it is of a kind that the layer of ``cpu/layer.py`` does not compute.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ConfigError(f"model_type = {family!r}: a rehearsal trains {', '.join(_FAMILIES)}", "take one of these")
    if config.get("mlp_bias") or config.get("hidden_act", "silu") != "silu":
        raise ConfigError(
            "mlp_bias or hidden_act: not as in Llama and Qwen", "take a model with SwiGLU and no bias there"
        )
    heads = config["num_attention_heads"]
    has_bias = family == "qwen2" or bool(config.get("attention_bias"))
    arguments: dict[str, Any] = {
        "--num-layers": config["num_hidden_layers"],
        "--hidden-size": config["hidden_size"],
        "--ffn-hidden-size": config["intermediate_size"],
        "--num-attention-heads": heads,
        # Without it Megatron's arguments say one group, and slime's conversion believes them.
        "--num-query-groups": config.get("num_key_value_heads") or heads,
        "--kv-channels": config.get("head_dim") or config["hidden_size"] // heads,
        "--norm-epsilon": config["rms_norm_eps"],
        "--rotary-base": int(_rotary_base(config)),
        "--vocab-size": config["vocab_size"],
        "--make-vocab-size-divisible-by": 1,
    }
    flags = ["--swiglu", "--use-rotary-position-embeddings", "--disable-bias-linear", "--group-query-attention"]
    flags += ["--normalization", "RMSNorm"]
    if has_bias:
        flags.append("--add-qkv-bias")
    if family == "llama" and has_bias:
        # slime's conversion of Llama knows no biases; that of Qwen2 has the same names for all else.
        flags += ["--model-name", "qwen2"]
    if family == "qwen3":
        flags.append("--qk-layernorm")
    if not config.get("tie_word_embeddings"):
        flags.append("--untie-embeddings-and-output-weights")
    return flags + [str(part) for argument in arguments.items() for part in argument]


def _rotary_base(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or {}
    base: float = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    return base
