"""How a preset's models come to be before reinforcement learning: both by imitation, the second one then frozen."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from slime_search.local.artifacts import Artifacts
from slime_search.local.cold_start import LEARNING_RATE, RELUCTANCE_LEARNING_RATE, cold_start
from slime_search.local.dataset import DatasetPaths, write_dataset
from slime_search.local.demonstrations import ONLY_ROLE, read_demonstrations
from slime_search.local.policy import build_model, build_tokenizer, load_policy, save_policy
from slime_search.local.policy_format import PolicyFormat
from slime_search.local.presets import Preset
from slime_search.local.world import invent_encyclopedia

RELUCTANCE_STEPS = 60


class Taught(NamedTuple):
    """A policy that imitation has taught already, and the seed of the encyclopedia whose words it knows."""

    folder: Path
    world_seed: int


class Beginnings:
    """The world, the policy and, where the preset has one, the second model of one run.

    Args:
        steps: of each imitation; None for the preset's.
        taught: a policy that needs no imitation; the world is then its own, with other questions for each seed.
        log: takes a phase, a step and numbers by name.
    """

    def __init__(
        self,
        preset: Preset,
        artifacts: Artifacts,
        progress: Progress,
        *,
        seed: int,
        steps: int | None = None,
        taught: Taught | None = None,
        log: Callable[..., None] = lambda phase, step, **values: None,
    ) -> None:
        self._preset = preset
        self._artifacts = artifacts
        self._progress = progress
        self._seed = seed
        self._taught = taught is not None
        self._steps = steps
        self._log = log
        self.seconds: dict[str, float] = {}
        """What each imitation took, by ``<phase>_s``."""
        task = progress.add_task("Encyclopedia", total=1, note="inventing people, towns and companies")
        known = None if taught is None else invent_encyclopedia(taught.world_seed)
        self.data: DatasetPaths = write_dataset(artifacts.data, seed, encyclopedia=known, preset=preset)
        self.tokenizer: PreTrainedTokenizerFast
        if taught is None:
            self.tokenizer = build_tokenizer(self.data.encyclopedia, preset.policy_format)
            self.model = build_model(self.tokenizer, seed)
        else:
            self.model, self.tokenizer = load_policy(taught.folder)
        data = self.data
        progress.update(task, completed=1, note=f"{data.documents:,} documents, {data.questions:,} questions")

    def make_policy(self) -> None:
        """Teaches ``model``, where it is not taught, and saves it, as the artifacts' ``cold_start_model``."""
        preset = self._preset
        if self._taught:
            note = "done: the policy comes with the package"
            task = self._progress.add_task("Cold start", total=1, note=note)
            self._progress.update(task, completed=1)
            save_policy(self._artifacts.cold_start_model, self.model, self.tokenizer)
            return
        steps = self._steps or preset.cold_start_steps
        formats = {name: role.policy_format for name, role in preset.roles.items()}
        note = "imitating an imperfect teacher"
        self._imitate("cold_start", self.model, self.tokenizer, self.data.demonstrations, formats, steps, note)
        if preset.reluctance is not None:
            steps = self._steps or RELUCTANCE_STEPS
            shown, note = self.data.reluctant_demonstrations, "imitating one who hardly searches"
            self._imitate(
                "reluctance",
                self.model,
                self.tokenizer,
                shown,
                formats,
                steps,
                note,
                learning_rate=RELUCTANCE_LEARNING_RATE,
            )
        save_policy(self._artifacts.cold_start_model, self.model, self.tokenizer)

    def make_frozen_model(self) -> Path | None:
        """The folder of the preset's second model, if it has one."""
        preset, tokenizer = self._preset, self.tokenizer
        if preset.frozen is None:
            return None
        if preset.frozen.vocabulary is not None:
            tokenizer = build_tokenizer(
                self.data.encyclopedia, preset.policy_format, vocabulary=preset.frozen.vocabulary
            )
        model = build_model(tokenizer, self._seed + 1)
        steps = self._steps or preset.frozen.steps
        formats = {ONLY_ROLE: preset.frozen.role.policy_format}
        note = "a second model imitates a skilled one, and is frozen"
        self._imitate("frozen", model, tokenizer, self.data.frozen_demonstrations, formats, steps, note)
        save_policy(self._artifacts.frozen_model, model, tokenizer)
        return self._artifacts.frozen_model

    def _imitate(
        self,
        phase: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        demonstrations: Path,
        formats: Mapping[str, PolicyFormat],
        steps: int,
        note: str,
        *,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        task = self._progress.add_task(phase.replace("_", " ").capitalize(), total=steps, note=note)
        began = time.monotonic()

        def on_step(step: int, loss: float) -> None:
            self._progress.update(task, completed=step, note=f"loss {loss:.2f}")
            if step % 10 == 0:
                self._log(phase, step, loss=round(loss, 4))

        shown = list(read_demonstrations(demonstrations))
        cold_start(
            model,
            tokenizer,
            shown,
            steps=steps,
            seed=self._seed,
            formats=formats,
            on_step=on_step,
            learning_rate=learning_rate,
        )
        self.seconds[f"{phase}_s"] = round(time.monotonic() - began, 1)
