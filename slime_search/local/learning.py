"""Reinforcement learning of one policy on a local stack, with held-out scores along the way."""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.progress import Progress
from transformers import PreTrainedModel

from slime_search.core.tokens import TokenCodec
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.samples import rollouts_of
from slime_search.local.artifacts import Artifacts
from slime_search.local.dataset import DatasetPaths
from slime_search.local.grpo import GrpoTrainer
from slime_search.local.presets import Preset
from slime_search.local.rollouts import RolloutStats, load_prompts, rollout_stats
from slime_search.local.stack import LocalStack
from slime_search.records.from_samples import rollout_record

Log = Callable[..., None]
"""Takes a phase, a step and numbers by name."""


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """``steps`` are GRPO steps, with ``samples_per_prompt`` rollouts of each of the preset's questions."""

    steps: int
    eval_every: int
    seed: int
    samples_per_prompt: int
    shown_questions: int


class Learning:
    """GRPO of one model.

    Args:
        title: how the progress bar calls it.
        phases: under which training and evaluations are logged.
        artifacts: take trajectories of both ends, if given.
    """

    def __init__(
        self,
        config: LearningConfig,
        preset: Preset,
        stack: LocalStack,
        data: DatasetPaths,
        progress: Progress,
        log: Log,
        *,
        title: str = "GRPO",
        phases: tuple[str, str] = ("train", "eval"),
        artifacts: Artifacts | None = None,
    ) -> None:
        self._config = config
        self._preset = preset
        self._stack = stack
        self._progress = progress
        self._log = log
        self._title = title
        self._artifacts = artifacts
        self._train_phase, self._eval_phase = phases
        render = None if preset.keeps_messages else preset.policy_format.renderer(stack.tokenizer)
        self._train, self._test = load_prompts(data.train, render), load_prompts(data.test, render)
        self.questions = len(self._test)
        self.scores: dict[int, RolloutStats] = {}
        """Held-out scores at the policy's temperature, by step."""
        self.greedy_scores: dict[int, RolloutStats] = {}
        """Those of the likeliest tokens, at both ends."""
        self.seconds = 0.0
        self.steps = 0

    def run(self, model: PreTrainedModel) -> None:
        """Trains ``model`` in place, and the engine with it."""
        config, preset, stack = self._config, self._preset, self._stack
        grpo = preset.grpo if stack.has_teacher else replace(preset.grpo, opd_kl_coef=0.0)
        trainer = GrpoTrainer(model, grpo, pad_id=stack.tokenizer.pad_token_id, temperature=preset.temperature)
        rng = random.Random(config.seed)
        self._evaluate(0)
        task = self._progress.add_task(self._title, total=config.steps, note="")
        began = time.monotonic()
        for step in range(1, config.steps + 1):
            prompts = rng.sample(self._train, preset.prompts)
            samples = stack.rollouts.collect(prompts, n=config.samples_per_prompt, temperature=preset.temperature)
            _, advantages = normalize_rewards(stack.args, samples)
            update = trainer.step(samples, advantages)
            stack.publish()
            stats = rollout_stats(samples)
            self._log(self._train_phase, step, **asdict(stats), **asdict(update))
            self.steps, self.seconds = step, round(time.monotonic() - began, 1)
            note = f"reward {stats.reward:.2f}, {stats.searches:.1f} {self._preset.searches}"
            self._progress.update(task, completed=step, note=note)
            if step % config.eval_every == 0 or step == config.steps:
                self._evaluate(step)

    def _evaluate(self, step: int) -> None:
        """Scores the held-out questions; at both ends greedily too, and with trajectories kept for the report."""
        kept = self._artifacts if step in (0, self._config.steps) else None
        samples = self._held_out(self._preset.temperature, shown=kept is not None)
        stats = rollout_stats(samples)
        self.scores[step] = stats
        self._log(self._eval_phase, step, **asdict(stats))
        self._progress.console.print(
            f"  step {step:>3}: held-out exact match [bold]{stats.em:.1%}[/bold], of two hops {stats.em_two_hops:.1%}, "
            f"{stats.searches:.1f} {self._preset.searches}"
        )
        if kept is None:
            return
        self.greedy_scores[step] = rollout_stats(self._held_out(0.0))
        codec = TokenCodec(self._stack.tokenizer)
        stage = "after" if step else "before"
        kept.add_rollouts(
            rollout_record(
                rollout,
                codec,
                id=f"{stage}/{number}",
                group=str(number),
                recipe=self._preset.name,
                stage=stage,
            )
            for number, rollout in enumerate(rollouts_of(samples)[: self._config.shown_questions])
        )

    def _held_out(self, temperature: float, *, shown: bool = False) -> list[Any]:
        # An evaluation returns the answering agent alone, and asks no teacher; the report shows other agents, too, and
        # where student and teacher differ.
        evaluation = len(self._preset.roles) == 1 and not (shown and self._stack.has_teacher)
        return self._stack.rollouts.collect(self._test, n=1, temperature=temperature, evaluation=evaluation)
