"""The embedded trainer against plain formulas."""

import math
import random

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from slime_search.hooks.contract import LocalSample
from slime_search.local.grpo import GrpoConfig, GrpoTrainer, clipped_loss, collate

VOCABULARY = 40


def tiny_model(seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def log_probs_of(model: Qwen2ForCausalLM, tokens: list[int], temperature: float = 1.0) -> torch.Tensor:
    """The log-probability of each token after the first, one sequence alone, no padding."""
    logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


def sample_from(model: Qwen2ForCausalLM, rng: random.Random, *, prompt: int, mask: list[int]) -> LocalSample:
    """A sample whose engine log-probabilities are the model's own, world tokens at 0.0."""
    tokens = [rng.randrange(1, VOCABULARY) for _ in range(prompt + len(mask))]
    with torch.no_grad():
        response = log_probs_of(model, tokens)[prompt - 1 :].tolist()
    return LocalSample(
        tokens=tokens,
        response_length=len(mask),
        loss_mask=mask,
        rollout_log_probs=[value if trained else 0.0 for value, trained in zip(response, mask, strict=True)],
    )


@pytest.fixture
def samples() -> list[LocalSample]:
    model, rng = tiny_model(), random.Random(0)
    masks = [[1, 1, 0, 0, 1], [1] * 9, [1, 0, 1]]
    return [sample_from(model, rng, prompt=prompt, mask=mask) for prompt, mask in zip([3, 5, 8], masks, strict=True)]


def test_collate_puts_every_value_at_its_token(samples: list[LocalSample]) -> None:
    tokens, attention, mask, log_probs = collate(samples, pad_id=0)
    assert tokens.shape == attention.shape == mask.shape == log_probs.shape == (3, 14)
    for row, sample in enumerate(samples):
        end = len(sample.tokens)
        assert tokens[row, :end].tolist() == sample.tokens
        assert attention[row].tolist() == [1] * end + [0] * (14 - end)
        start = end - sample.response_length
        assert mask[row].tolist() == [0] * start + sample.loss_mask + [0] * (14 - end)
        assert log_probs[row, start:end].tolist() == pytest.approx(sample.rollout_log_probs)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.56),  # clipped above at 1.28
        (0.5, 2.0, -1.0),  # a worse token is not clipped when it should rise
        (0.5, -2.0, 1.6),  # clipped below at 0.8
        (1.5, -2.0, 3.0),
    ],
)
def test_clipped_loss_follows_ppo(ratio: float, advantage: float, expected: float) -> None:
    loss = clipped_loss(torch.tensor([math.log(ratio)]), torch.zeros(1), torch.tensor([advantage]), 0.2, 0.28)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2, 32])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradient_is_the_token_mean_of_advantage_weighted_log_probs(
    samples: list[LocalSample], micro_batch: int, temperature: float
) -> None:
    """On policy the ratio is 1, so the gradient is that of −Σ A·log π / N, however the batch is padded and split."""
    reference = tiny_model()
    advantages = [1.5, -0.5, 0.25]
    for sample in samples:
        prompt = len(sample.tokens) - sample.response_length
        with torch.no_grad():
            values = log_probs_of(reference, sample.tokens, temperature)[prompt - 1 :]
        sample.rollout_log_probs = (values * torch.tensor(sample.loss_mask)).tolist()
    total = sum(sum(sample.loss_mask) for sample in samples)
    loss = torch.zeros(())
    for sample, advantage in zip(samples, advantages, strict=True):
        prompt = len(sample.tokens) - sample.response_length
        values = log_probs_of(reference, sample.tokens, temperature)[prompt - 1 :]
        loss = loss - advantage * (values * torch.tensor(sample.loss_mask)).sum() / total
    loss.backward()
    expected_norm = torch.nn.utils.get_total_norm([p.grad for p in reference.parameters() if p.grad is not None])

    trainer = GrpoTrainer(tiny_model(), GrpoConfig(micro_batch=micro_batch), pad_id=0, temperature=temperature)
    stats = trainer.step(samples, advantages)
    assert stats.grad_norm == pytest.approx(expected_norm.item(), rel=1e-4)
    assert stats.policy_shift < 1e-5
    assert stats.trained_tokens == total


def test_a_step_moves_probability_towards_the_advantage(samples: list[LocalSample]) -> None:
    model = tiny_model()

    def trained_log_prob(sample: LocalSample) -> float:
        start = len(sample.tokens) - sample.response_length - 1
        with torch.no_grad():
            return float((log_probs_of(model, sample.tokens)[start:] * torch.tensor(sample.loss_mask)).sum())

    before = [trained_log_prob(sample) for sample in samples[:2]]
    trainer = GrpoTrainer(model, GrpoConfig(learning_rate=1e-3, warmup_steps=1), pad_id=0, temperature=1.0)
    trainer.step(samples[:2], [1.0, -1.0])
    after = [trained_log_prob(sample) for sample in samples[:2]]
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_samples_without_signal_change_nothing(samples: list[LocalSample]) -> None:
    removed = LocalSample(
        tokens=[1, 2, 3, 4], response_length=2, loss_mask=[1, 1], rollout_log_probs=[-1.0, -1.0], remove_sample=True
    )
    alone, accompanied = tiny_model(), tiny_model()
    GrpoTrainer(alone, GrpoConfig(), pad_id=0, temperature=1.0).step(samples[:1], [1.0])
    GrpoTrainer(accompanied, GrpoConfig(), pad_id=0, temperature=1.0).step([samples[0], removed, samples[1]], [1, 5, 0])
    for one, other in zip(alone.parameters(), accompanied.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_rollout_without_any_signal_is_no_step(samples: list[LocalSample]) -> None:
    model, untouched = tiny_model(), tiny_model()
    stats = GrpoTrainer(model, GrpoConfig(), pad_id=0, temperature=1.0).step(samples, [0.0, 0.0, 0.0])
    assert stats.trained_samples == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_a_teacher_moves_each_tokens_advantage(samples: list[LocalSample]) -> None:
    """As slime has it: A − c·(log π − log π_teacher), also where the group's advantage is 0."""
    rng, coefficient, advantages = random.Random(1), 0.3, [0.0, 1.0, -1.0]
    for sample in samples:
        assert sample.rollout_log_probs is not None
        sample.teacher_log_probs = [value - rng.random() for value in sample.rollout_log_probs]
    model, reference = tiny_model(), tiny_model()
    config = GrpoConfig(learning_rate=1e-3, warmup_steps=1, opd_kl_coef=coefficient, max_grad_norm=1e9)
    GrpoTrainer(model, config, pad_id=0, temperature=1.0).step(samples, advantages)

    trained = sum(sum(sample.loss_mask or ()) for sample in samples)
    loss = torch.zeros(())
    for sample, advantage in zip(samples, advantages, strict=True):
        now = log_probs_of(reference, sample.tokens)[-sample.response_length :]
        own, told = torch.tensor(sample.rollout_log_probs), torch.tensor(sample.teacher_log_probs)
        # Before the first step the ratio is 1, so its gradient is that of log π.
        per_token = (advantage - coefficient * (own - told)) * (now - own).exp()
        loss = loss - (per_token * torch.tensor(sample.loss_mask)).sum() / trained
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    loss.backward()
    optimizer.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-5)
