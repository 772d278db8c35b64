"""Choosing the next token of every request from the model's logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from slime_search.local.engine.params import SamplingParams


@dataclass(frozen=True, slots=True)
class Choice:
    """What one row of logits is sampled with."""

    params: SamplingParams
    random: Random
    """Gives one number a token, so that a seeded request draws the same in whatever batch it runs."""
    forbidden: Sequence[int] = ()
    """Tokens that may not be chosen."""


def sample(logits: Tensor, choices: Sequence[Choice]) -> tuple[list[int], list[float]]:
    """One token a row of ``logits`` (rows, vocabulary; changed in place), and its log-probability.

    The log-probability is that under the logits divided by the temperature, before top-k and top-p. It is NaN or
    infinite where the logits were not finite.
    """
    for row, choice in enumerate(choices):
        if choice.forbidden:
            logits[row, list(choice.forbidden)] = float("-inf")
    temperatures = [choice.params.softmax_temperature for choice in choices]
    if any(temperature != 1.0 for temperature in temperatures):
        logits /= torch.tensor(temperatures)[:, None]
    log_probs = logits.log_softmax(-1)
    greedy = [row for row, choice in enumerate(choices) if choice.params.greedy]
    if len(greedy) == len(choices):
        drawn = log_probs.argmax(-1)
    else:
        drawn = _draw(log_probs, choices)
        drawn[greedy] = log_probs[greedy].argmax(-1)
    return drawn.tolist(), log_probs.gather(-1, drawn[:, None])[:, 0].tolist()


def _draw(log_probs: Tensor, choices: Sequence[Choice]) -> Tensor:
    # Doubles, so that neither rounding nor a number close to 1 leads past the last possible token.
    probs = log_probs.double().exp_()
    vocabulary = probs.shape[-1]
    truncated = [
        row for row, choice in enumerate(choices) if choice.params.top_p < 1 or 0 < choice.params.top_k < vocabulary
    ]
    if truncated:
        rows = torch.tensor(truncated)
        probs[rows] = _truncate(probs[rows], [choices[row].params for row in truncated])
    cumulative = probs.cumsum(-1)
    numbers = torch.tensor([choice.random.random() for choice in choices], dtype=torch.float64)[:, None]
    drawn = torch.searchsorted(cumulative, numbers * cumulative[:, -1:], right=True)[:, 0]
    return drawn.clamp_(max=vocabulary - 1)


def _truncate(probs: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """``probs`` with 0 for all but the ``top_k`` likeliest tokens and, of the whole, the likeliest ``top_p``."""
    vocabulary = probs.shape[-1]
    ordered, index = probs.sort(dim=-1, descending=True)
    top_k = torch.tensor([p.top_k if p.top_k > 0 else vocabulary for p in params])[:, None]
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float64)[:, None]
    before = ordered.cumsum(-1) - ordered
    ordered[(torch.arange(vocabulary) >= top_k) | (before > top_p)] = 0
    return torch.zeros_like(probs).scatter_(-1, index, ordered)
