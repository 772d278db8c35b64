"""A start from which a tiny model learns to copy in minutes.

Every pre-trained language model has induction heads (Olsson et al., "In-context Learning and Induction Heads", 2022):
one layer marks each token with the token before it, a later layer finds the place where the present token stood before
and copies what followed it there. Searching and answering is mostly such copying, of a name from the question
into the query and of a fact from the results into the answer. A model without pre-training would spend most of a short
cold start on discovering that circuit; this module writes a rough one into its first two layers instead. It knows no
words and no task, and training goes on to change it freely.

A worked example. The context is ``… Anna Bell was born in 1859 … When was Anna``, and the next token shall be ``Bell``:

1. Layer 0 attends one position back. What it reads at ``Bell`` is the vector of ``Anna``; it writes it, turned into
   other directions by ``written``, beside what ``Bell`` itself is: "after Anna".
2. Layer 1 stands at the second ``Anna``. Its query is the vector of ``Anna``, seen through ``seen``; its keys are what
   layer 0 wrote, seen through ``written``. They agree where "after Anna" stands, which is at ``Bell``.
3. Its value there is the vector of ``Bell``, and ``copied`` turns it back into the direction of that embedding. With
   tied weights, this raises the logit of ``Bell``.
"""

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

SEEDED_HEADS = 3
"""Heads a layer that take part; the others stay random."""
EMBEDDING_STD = 0.1
"""Large enough that the embeddings of any two words differ clearly, which matching them relies on."""
ROTATING_PAIRS = 5
"""The fastest rotary pairs, by which a head tells neighbouring positions apart."""
POSITION_BIAS = 5.5
PREVIOUS_GAIN = 0.2
MATCH_GAIN = 2.0
COPY_GAIN = 0.3


@torch.no_grad()
def seed_induction(model: LlamaForCausalLM) -> None:
    """Overwrites the embeddings and parts of the attention of layers 0 and 1 of a fresh model.

    It draws from torch's random numbers. The model needs two layers or more, and a key and value head for each query
    head.
    """
    width = model.config.hidden_size
    model.model.embed_tokens.weight.normal_(0, EMBEDDING_STD)
    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    head_dim = first.head_dim
    query_bias, key_bias = _previous_token_biases(model)
    for head in range(SEEDED_HEADS):
        rows = slice(head * head_dim, (head + 1) * head_dim)
        seen, written, copied = (_orthonormal_rows(head_dim, width) for _ in range(3))
        # Layer 0 attends by position alone, and writes what it reads of the previous token into directions of its own.
        first.q_proj.bias[rows], first.k_proj.bias[rows] = query_bias, key_bias
        first.q_proj.weight[rows] *= 0.1
        first.k_proj.weight[rows] *= 0.1
        first.v_proj.weight[rows] = seen
        first.o_proj.weight[:, rows] = PREVIOUS_GAIN * written.T
        # Layer 1 compares the present token with what layer 0 wrote, and hands on the token that it finds.
        second.q_proj.weight[rows] = MATCH_GAIN * seen
        second.k_proj.weight[rows] = MATCH_GAIN * written
        second.v_proj.weight[rows] = copied
        second.o_proj.weight[:, rows] = COPY_GAIN * copied.T


def _previous_token_biases(model: LlamaForCausalLM) -> tuple[Tensor, Tensor]:
    """Query and key biases of one head that, once rotated to their positions, agree best one position apart.

    Rotary embedding turns each pair of a vector at position p by p times an angle of its own. The key is the query
    turned by one step, so the two coincide where the key's position is the query's minus one.
    """
    angles = model.model.rotary_emb.inv_freq[:ROTATING_PAIRS]
    pairs = len(model.model.rotary_emb.inv_freq)
    query, key = torch.zeros(2 * pairs), torch.zeros(2 * pairs)
    query[:ROTATING_PAIRS] = POSITION_BIAS
    key[:ROTATING_PAIRS] = POSITION_BIAS * torch.cos(angles)
    key[pairs : pairs + ROTATING_PAIRS] = POSITION_BIAS * torch.sin(angles)
    return query, key


def _orthonormal_rows(rows: int, columns: int) -> Tensor:
    orthonormal_columns: Tensor = torch.linalg.qr(torch.randn(columns, rows)).Q
    return orthonormal_columns.T
