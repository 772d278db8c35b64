"""The sampler's distribution, by counting."""

from random import Random

import pytest
import torch

from slime_search.local.engine.params import SamplingParams
from slime_search.local.engine.sampling import Choice, sample

LOGITS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0, -1.5, 2.0, -3.0])
DRAWS = 4000


def _draw(**params: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts by token and the log-probability that came with each of the draws' tokens."""
    choice = Choice(SamplingParams(**params), Random(0))  # type: ignore[arg-type]
    tokens, log_probs = sample(LOGITS.repeat(DRAWS, 1), [choice] * DRAWS)
    seen = torch.full((len(LOGITS),), float("nan"))
    seen[tokens] = torch.tensor(log_probs)
    return torch.bincount(torch.tensor(tokens), minlength=len(LOGITS)), seen


def _chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    expected = probs * DRAWS
    possible = expected > 0
    assert counts[~possible].sum() == 0
    return float(((counts - expected)[possible] ** 2 / expected[possible]).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    counts, log_probs = _draw(temperature=temperature)
    expected = (LOGITS / temperature).log_softmax(-1)
    assert _chi_square(counts, expected.exp()) < 30  # 7 degrees of freedom: once in 10,000 seeds
    torch.testing.assert_close(log_probs[counts > 0], expected[counts > 0])


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 3}, [6, 0, 1]),
        ({"top_p": 0.6}, [6, 0]),
        ({"top_p": 0.6, "top_k": 1}, [6]),
        ({"top_p": 1e-9}, [6]),
        ({"top_k": 1000}, list(range(8))),
    ],
)
def test_truncation_keeps_the_likeliest_and_reports_untruncated_log_probs(params: dict, kept: list[int]) -> None:
    counts, log_probs = _draw(**params)
    full = LOGITS.softmax(-1)
    probs = torch.zeros_like(full)
    probs[kept] = full[kept] / full[kept].sum()
    assert _chi_square(counts, probs) < 30
    torch.testing.assert_close(log_probs[kept], LOGITS.log_softmax(-1)[kept])


def test_rows_of_one_batch_keep_their_own_parameters() -> None:
    choices = [
        Choice(SamplingParams(temperature=0.0), Random(0)),
        Choice(SamplingParams(temperature=0.5), Random(1)),
        Choice(SamplingParams(top_k=1), Random(2)),
        Choice(SamplingParams(temperature=0.0), Random(3), forbidden=[6]),
    ]
    tokens, log_probs = sample(LOGITS.repeat(4, 1), choices)
    assert (tokens[0], tokens[2], tokens[3]) == (6, 6, 0)
    assert log_probs[0] == pytest.approx(LOGITS.log_softmax(-1)[6].item())
    assert log_probs[1] == pytest.approx((LOGITS / 0.5).log_softmax(-1)[tokens[1]].item())
    others = LOGITS.clone()
    others[6] = float("-inf")
    assert log_probs[3] == pytest.approx(others.log_softmax(-1)[0].item())


def test_logits_that_are_no_numbers_are_told_by_the_log_prob() -> None:
    logits = LOGITS.repeat(2, 1)
    logits[1, 3] = float("nan")
    _, log_probs = sample(logits, [Choice(SamplingParams(), Random(0))] * 2)
    assert log_probs[0] == log_probs[0]
    assert log_probs[1] != log_probs[1]
