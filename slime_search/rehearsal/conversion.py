"""The quickstart's policy as Megatron can hold it, and back.

It is a Llama with biases at queries, keys, values and the attention's output. Megatron has the first three, as Qwen2.5
does, and the fourth only together with biases everywhere. What attention reads is an average of values, so a bias on
the values adds the same vector at every place: ``v_bias`` raised by y adds ``W_o y`` to the output, and y is chosen so
that this is the bias that is taken away. The model computes the same, up to directions that ``W_o`` hardly writes to.
"""

from pathlib import Path

import torch
import transformers

from slime_search.local.policy import load_policy, save_policy

WEAKEST = 1e-3
"""Singular values of ``W_o`` below this share of the largest are left out: their y would be so large that the bf16 of
the trainer rounds away more than they bring."""


def for_megatron(source: Path, target: Path) -> None:
    """Writes the policy in ``source`` without biases at the attention's output; those in the file are 0."""
    model, tokenizer = load_policy(source)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            output = attention.o_proj
            if output.bias is None:
                continue
            raised = torch.linalg.pinv(output.weight.double(), rtol=WEAKEST) @ output.bias.double()
            attention.v_proj.bias += raised.to(attention.v_proj.bias.dtype)
            output.bias.zero_()
    save_policy(target, model, tokenizer)


def from_slime(source: Path, target: Path) -> None:
    """Writes what slime's ``--save-hf`` has left in ``source`` as a whole folder again.

    slime converts what Megatron has, so the biases of 0 are missing there, and transformers would make some up.
    """
    # It would report what is missing, which is put there below.
    transformers.utils.logging.set_verbosity_error()
    model, tokenizer = load_policy(source)
    with torch.no_grad():
        for layer in model.model.layers:
            if layer.self_attn.o_proj.bias is not None:
                layer.self_attn.o_proj.bias.zero_()
    save_policy(target, model.float(), tokenizer)
