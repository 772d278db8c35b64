from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slime_search.local.policy import build_model, build_tokenizer, load_policy, save_policy
from slime_search.local.world import WorldSize, invent_encyclopedia
from slime_search.rehearsal.conversion import for_megatron, from_slime


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy whose biases have been learned."""
    size = WorldSize(people=30, towns=12, companies=12)
    tokenizer = build_tokenizer(invent_encyclopedia(7, size, size, size))
    model = build_model(tokenizer, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.normal_(0, 0.03)
    save_policy(tmp_path / "source", model, tokenizer)
    return tmp_path / "source"


def log_probs(folder: Path) -> torch.Tensor:
    model, _ = load_policy(folder)
    tokens = torch.arange(3, 63).reshape(2, 30)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(tokens).logits.log_softmax(-1)
    return found


def divergence(first: torch.Tensor, second: torch.Tensor) -> float:
    """KL of the first from the second, in nats a token."""
    return float((first.exp() * (first - second)).sum(-1).mean())


def test_the_bias_of_the_output_moves_to_the_values_and_nothing_else_changes(policy: Path, tmp_path: Path) -> None:
    for_megatron(policy, tmp_path / "target")
    weights = load_file(tmp_path / "target" / "model.safetensors")
    assert all(not weights[name].any() for name in weights if name.endswith("o_proj.bias"))
    kept = log_probs(policy)
    moved = divergence(kept, log_probs(tmp_path / "target"))
    assert moved < 1e-3
    model, tokenizer = load_policy(policy)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.zero_()
    save_policy(tmp_path / "without", model, tokenizer)
    # Leaving it out instead makes another policy.
    assert divergence(kept, log_probs(tmp_path / "without")) > 10 * moved


def test_what_slime_has_saved_is_whole_again(policy: Path, tmp_path: Path) -> None:
    """slime writes bf16, and no biases of the output."""
    for_megatron(policy, tmp_path / "start")
    saved = tmp_path / "hf_2"
    model, tokenizer = load_policy(tmp_path / "start")
    save_policy(saved, model, tokenizer)
    weights = load_file(saved / "model.safetensors")
    left = {name: tensor.bfloat16() for name, tensor in weights.items() if not name.endswith("o_proj.bias")}
    save_file(left, saved / "model.safetensors", metadata={"format": "pt"})
    from_slime(saved, tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == weights.keys()
    assert divergence(log_probs(tmp_path / "start"), log_probs(tmp_path / "model")) < 1e-3
