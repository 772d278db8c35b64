"""What a rehearsal leaves in its folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from slime_search.local.artifacts import Artifacts


@dataclass(frozen=True)
class RehearsalFolder:
    """The files of one rehearsal. ``start`` is laid out as a quickstart's folder, and may be one."""

    root: Path
    start: Artifacts

    @property
    def policy(self) -> Path:
        """The policy before reinforcement learning, as Megatron can hold it."""
        return self.root / "policy"

    @property
    def train_questions(self) -> Path:
        return self.root / "questions" / "train.parquet"

    @property
    def test_questions(self) -> Path:
        return self.root / "questions" / "test.parquet"

    @property
    def model(self) -> Path:
        """The trained policy, as a Hugging Face folder."""
        return self.root / "model"

    @property
    def hooks(self) -> Path:
        """The module with the recipe, and slime's YAML file: what a user writes for a run of their own."""
        return self.root / "hooks"

    @property
    def config(self) -> Path:
        return self.hooks / "config.yaml"

    @property
    def script(self) -> Path:
        """slime's command line, written as a run script has it, to be read."""
        return self.hooks / "train.sh"

    @property
    def checkpoints(self) -> Path:
        """slime's ``--save`` and ``--load``."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """Where the trainer leaves each version of the weights for the engine."""
        return self.root / "weights"

    @property
    def dumps(self) -> Path:
        return self.root / "dumps"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def curve(self) -> Path:
        return self.root / "curve.png"

    @property
    def page(self) -> Path:
        """Rollouts of the first and last steps, to be opened in a browser."""
        return self.root / "rollouts.html"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    def evaluation(self, when: str) -> Path:
        """``when`` is before or after."""
        return self.root / when

    def forget(self) -> None:
        """Removes what an earlier rehearsal has left, but for the policy that it started from."""
        for folder in (self.checkpoints, self.weights, self.dumps, self.tensorboard, self.model, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        for when in ("before", "after"):
            shutil.rmtree(self.evaluation(when), ignore_errors=True)
        for file in (self.curve, self.page, self.summary):
            file.unlink(missing_ok=True)
