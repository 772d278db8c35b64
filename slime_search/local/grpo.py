"""A compact GRPO trainer for a small model on a CPU.

It consumes what slime's trainer consumes: samples with tokens, loss mask and the engine's log-probabilities, and the
rewards that the reward post-process hook normalised. Shapes are named by suffix: B samples, T positions of prompt and
response.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """Hyperparameters. ``clip_low`` and ``clip_high`` are the decoupled clip range of DAPO (arXiv 2503.14476).

    ``opd_kl_coef`` is slime's: with c over 0 each token's advantage loses c·(log π_engine − log π_teacher).
    """

    learning_rate: float = 2e-4
    warmup_steps: int = 5
    clip_low: float = 0.2
    clip_high: float = 0.28
    max_grad_norm: float = 1.0
    opd_kl_coef: float = 0.0
    micro_batch: int = 32


@dataclass(frozen=True, slots=True)
class StepStats:
    """``policy_shift`` is the mean of |log π_θ − log π_engine| over trained tokens before the step, in nats.

    It is the train–inference mismatch: both have the same weights then, so only numerics may tell them apart.
    """

    loss: float
    grad_norm: float
    policy_shift: float
    trained_samples: int
    trained_tokens: int


class GrpoTrainer:
    """One optimiser step a rollout: on-policy, no KL term, no reference model."""

    def __init__(self, model: PreTrainedModel, config: GrpoConfig, *, pad_id: int, temperature: float) -> None:
        self._model = model
        self._config = config
        self._pad_id = pad_id
        self._temperature = temperature
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self._steps = 0

    def step(self, samples: Sequence[Any], advantages: Sequence[float]) -> StepStats:
        """Updates the model on one rollout; samples without a signal cost nothing.

        Those are the removed ones and, where no teacher speaks, those of advantage 0.
        """
        batch = [
            (sample, advantage)
            for sample, advantage in zip(samples, advantages, strict=True)
            if (advantage != 0.0 or self._config.opd_kl_coef) and not sample.remove_sample
        ]
        batch.sort(key=lambda pair: len(pair[0].tokens))
        tokens_trained = sum(sum(sample.loss_mask) for sample, _ in batch)
        if tokens_trained == 0:
            return StepStats(0.0, 0.0, 0.0, 0, 0)
        self._model.train()
        loss = shift = 0.0
        for start in range(0, len(batch), self._config.micro_batch):
            part = batch[start : start + self._config.micro_batch]
            part_loss, part_shift = self._backward([s for s, _ in part], [a for _, a in part], tokens_trained)
            loss, shift = loss + part_loss, shift + part_shift
        grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self._steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * min(1.0, self._steps / self._config.warmup_steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return StepStats(loss, float(grad_norm), shift, len(batch), tokens_trained)

    def _backward(
        self, samples: Sequence[Any], advantages: Sequence[float], tokens_trained: int
    ) -> tuple[float, float]:
        tokens_BT, attention_BT, mask_BT, old_log_probs_BT = collate(samples, self._pad_id)
        logits_BTV = self._model(input_ids=tokens_BT, attention_mask=attention_BT).logits[:, :-1].float()
        log_probs_BT = -F.cross_entropy(
            (logits_BTV / self._temperature).transpose(1, 2), tokens_BT[:, 1:], reduction="none"
        )
        mask_BT, old_log_probs_BT = mask_BT[:, 1:], old_log_probs_BT[:, 1:]
        loss_BT = clipped_loss(
            log_probs_BT,
            old_log_probs_BT,
            self._advantages(samples, advantages, old_log_probs_BT),
            self._config.clip_low,
            self._config.clip_high,
        )
        loss = (loss_BT * mask_BT).sum() / tokens_trained
        loss.backward()  # type: ignore[no-untyped-call]
        shift = ((log_probs_BT - old_log_probs_BT).abs() * mask_BT).sum() / tokens_trained
        return loss.item(), shift.item()

    def _advantages(self, samples: Sequence[Any], advantages: Sequence[float], old_log_probs: Tensor) -> Tensor:
        """Shape [B, 1], or [B, T] where a teacher speaks."""
        advantages_B1 = torch.tensor(advantages)[:, None]
        if not self._config.opd_kl_coef:
            return advantages_B1
        shape = old_log_probs.shape[0], old_log_probs.shape[1] + 1
        teacher_BT = response_values(samples, [sample.teacher_log_probs for sample in samples], shape)[:, 1:]
        return advantages_B1 - self._config.opd_kl_coef * (old_log_probs - teacher_BT)


def clipped_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """PPO's clipped surrogate, negated (Schulman et al., arXiv 1707.06347, eq. 7), element by element."""
    ratio = (log_probs - old_log_probs).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def collate(samples: Sequence[Any], pad_id: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Right-padded tokens, attention, loss mask and engine log-probabilities, each of shape [B, T]."""
    shape = len(samples), max(len(sample.tokens) for sample in samples)
    tokens_BT = torch.full(shape, pad_id)
    attention_BT = torch.zeros(shape, dtype=torch.long)
    for row, sample in enumerate(samples):
        end = len(sample.tokens)
        tokens_BT[row, :end] = torch.tensor(sample.tokens)
        attention_BT[row, :end] = 1
    mask_BT = response_values(samples, [sample.loss_mask for sample in samples], shape)
    log_probs_BT = response_values(samples, [sample.rollout_log_probs for sample in samples], shape)
    return tokens_BT, attention_BT, mask_BT, log_probs_BT


def response_values(samples: Sequence[Any], values: Sequence[Sequence[float]], shape: tuple[int, int]) -> Tensor:
    """One value a response token, at the token's position in [B, T]; 0.0 everywhere else."""
    values_BT = torch.zeros(shape)
    for row, (sample, own) in enumerate(zip(samples, values, strict=True)):
        end = len(sample.tokens)
        values_BT[row, end - sample.response_length : end] = torch.tensor(own, dtype=torch.float)
    return values_BT
