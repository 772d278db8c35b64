"""Supervised training on demonstrations, so that reinforcement learning starts from a policy that knows the format."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Owner
from slime_search.local.demonstrations import ONLY_ROLE, Demonstration
from slime_search.local.muon import Muon
from slime_search.local.policy_format import TAGS, PolicyFormat

_ONE_AGENT: Mapping[str, PolicyFormat] = MappingProxyType({ONLY_ROLE: TAGS})
LEARNING_RATE = 3e-3
RELUCTANCE_LEARNING_RATE = LEARNING_RATE / 5
"""Of the short imitation that follows, of somebody who hardly searches."""
BATCH_SIZE = 32
MICRO_BATCH_SIZE = 8
WARM_UP_STEPS = 30
MAX_GRADIENT_NORM = 1.0
WORLD_WEIGHT = 0.1
"""The loss of a token that the model will only ever read, relative to one that it writes. Reading matters a little:
predicting that a name goes on as it did before is how the model learns to copy one."""


@dataclass(frozen=True)
class Example:
    """A tokenised demonstration, prompt first, and each token's weight in the loss."""

    token_ids: list[int]
    weights: list[float]


def encode_demonstration(
    demonstration: Demonstration, codec: TokenCodec, prompt_ids: Callable[[str], list[int]]
) -> Example:
    """The token ids that the same run would have as a rollout; ``prompt_ids`` are those of its question."""
    token_ids = list(prompt_ids(demonstration.question))
    weights = [WORLD_WEIGHT] * len(token_ids)
    for turn in demonstration.segments:
        turn_ids = codec.trusted(turn.text)
        token_ids += turn_ids
        weights += [1.0 if turn.owner is Owner.MODEL else WORLD_WEIGHT] * len(turn_ids)
    return Example(token_ids, weights)


def cold_start(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    *,
    steps: int,
    seed: int,
    formats: Mapping[str, PolicyFormat] = {ONLY_ROLE: TAGS},
    on_step: Callable[[int, float], object] = lambda step, loss: None,
    learning_rate: float = LEARNING_RATE,
) -> list[float]:
    """Trains `model` in place and returns the loss of every step: weighted cross-entropy a token, in nats.

    ``formats`` are those of the demonstrations' roles. `on_step` is called after every step with its number, counted
    from 1, and its loss. Whatever it raises, and an interruption too, ends the training; the weights then are those of
    the last whole step.

    Raises:
        ValueError: there are no demonstrations.
    """
    if not demonstrations:
        raise ValueError("demonstrations: none given, at least one is needed")
    codec = TokenCodec(tokenizer)
    encoders = {role: policy_format.prompt_encoder(codec, tokenizer) for role, policy_format in formats.items()}
    examples = [encode_demonstration(shown, codec, encoders[shown.role]) for shown in demonstrations]
    batches = _batches(examples, random.Random(seed))
    optimizers = _optimizers(model, learning_rate)
    losses: list[float] = []
    model.train()
    for step in range(1, steps + 1):
        loss = _accumulate_gradient(model, next(batches))
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule(step, steps)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss)
        on_step(step, loss)
    model.eval()
    return losses


def _accumulate_gradient(model: PreTrainedModel, batch: Sequence[Example]) -> float:
    """Adds the gradient of the batch's mean loss, a few examples at a time, and returns that loss."""
    total_weight = sum(sum(example.weights) for example in batch)
    loss = 0.0
    for start in range(0, len(batch), MICRO_BATCH_SIZE):
        part = _weighted_loss(model, batch[start : start + MICRO_BATCH_SIZE]) / total_weight
        torch.autograd.backward(part)
        loss += part.item()
    return loss


def _optimizers(model: PreTrainedModel, learning_rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices between the layers, AdamW for embeddings, norms and biases."""
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        (hidden if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    return (
        Muon(hidden, lr=learning_rate),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )


def _schedule(step: int, steps: int) -> float:
    """A linear warm-up, then half a cosine down to a twentieth."""
    warm_up = min(1.0, step / WARM_UP_STEPS)
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return warm_up * (0.05 + 0.95 * cosine)


def _batches(examples: Sequence[Example], rng: random.Random) -> Iterator[list[Example]]:
    queue: list[Example] = []
    while True:
        if len(queue) < BATCH_SIZE:
            queue += rng.sample(examples, len(examples))
        batch, queue = queue[:BATCH_SIZE], queue[BATCH_SIZE:]
        # Neighbours in length share a micro batch, so that little of it is padding.
        yield sorted(batch, key=lambda example: len(example.token_ids))


def _weighted_loss(model: PreTrainedModel, batch: Sequence[Example]) -> Tensor:
    """The sum over all tokens of weight times cross-entropy."""
    shape = len(batch), max(len(example.token_ids) for example in batch)
    # A padded token has no weight, and in a causal model the tokens before it do not see it.
    tokens_bt = torch.zeros(shape, dtype=torch.long)
    weights_bt = torch.zeros(shape)
    for row, example in enumerate(batch):
        length = len(example.token_ids)
        tokens_bt[row, :length] = torch.tensor(example.token_ids)
        weights_bt[row, :length] = torch.tensor(example.weights)
    hidden_btd = model.model(input_ids=tokens_bt).last_hidden_state[:, :-1]
    scored_bt = weights_bt[:, 1:] > 0
    logits_nv = model.lm_head(hidden_btd[scored_bt])
    losses_n = F.cross_entropy(logits_nv, tokens_bt[:, 1:][scored_bt], reduction="none")
    return losses_n @ weights_bt[:, 1:][scored_bt]
