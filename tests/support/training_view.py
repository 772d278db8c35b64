"""What a sample must hold for training, rebuilt from the engine's own record of the requests and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.scripted_engine import Exchange


@dataclass(frozen=True)
class TrainingView:
    prompt_ids: list[int]
    tokens: list[int]
    loss_mask: list[int]
    log_probs: list[float]
    world: list[list[int]]
    """Token ids that appeared between two completions."""


def training_view(exchanges: Sequence[Exchange]) -> TrainingView:
    """The tokens of one trajectory's requests, in order.

    Fails unless each request's input begins, bit by bit, with the previous one's input and output.
    """
    assert exchanges, "no request reached the engine"
    prompt = exchanges[0].input_ids
    tokens, mask, log_probs, world = list(prompt), list[int](), list[float](), list[list[int]]()
    for exchange in exchanges:
        assert exchange.input_ids[: len(tokens)] == tokens, "the input does not extend the last input and output"
        appended = exchange.input_ids[len(tokens) :]
        if appended:
            world.append(appended)
        tokens += appended + exchange.output_ids
        mask += [0] * len(appended) + [1] * len(exchange.output_ids)
        log_probs += [0.0] * len(appended) + exchange.log_probs
    return TrainingView(list(prompt), tokens, mask, log_probs, world)
