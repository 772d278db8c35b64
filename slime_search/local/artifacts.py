"""What a quickstart run leaves in its folder, written so that an interruption at any moment leaves it usable."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_search.files import write_text
from slime_search.records.rollout import Rollout


@dataclass(frozen=True)
class Artifacts:
    """The files of one run."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def model(self) -> Path:
        """The trained model, as a Hugging Face folder."""
        return self.folder / "model"

    @property
    def cold_start_model(self) -> Path:
        return self.folder / "cold_start"

    @property
    def frozen_model(self) -> Path:
        """A second model, which is not trained by reinforcement learning."""
        return self.folder / "frozen"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def trajectories(self) -> Path:
        return self.folder / "trajectories.jsonl"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.png"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def begin(self) -> None:
        """Makes the folder and removes the results of an earlier run in it, which would mix with the new ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.metrics, self.trajectories, self.summary, self.curve, self.report):
            path.unlink(missing_ok=True)

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def add_rollouts(self, rollouts: Iterable[Rollout]) -> None:
        with self.trajectories.open("ab") as file:
            file.writelines(rollout.line() for rollout in rollouts)

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The rows of a JSONL file of this run; none if nothing was written yet."""
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_text(self.summary, json.dumps(summary, indent=2) + "\n")
