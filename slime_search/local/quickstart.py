"""The whole product on one CPU: a search agent that learns in minutes, on the code paths of a cluster run."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import PreTrainedModel

from slime_search.local.artifacts import Artifacts
from slime_search.local.beginnings import Beginnings
from slime_search.local.dataset import DatasetPaths
from slime_search.local.learning import Learning, LearningConfig
from slime_search.local.presets import SEARCH_R1, Preset
from slime_search.local.progress import progress_on
from slime_search.local.stack import LocalStack, RetrieverProcess
from slime_search.local.starts import shipped_start
from slime_search.viewer.curve import ALONE, draw_curve
from slime_search.viewer.report import write_report


@dataclass(frozen=True, slots=True)
class QuickstartConfig:
    """What a run does. ``steps`` are GRPO steps, with ``samples_per_prompt`` rollouts of each question.

    Where a number of steps is None it is the preset's. A policy that comes with the package (``starts.py``) is taken as
    it is, unless it is to be made ``from_scratch`` or ``cold_start_steps`` are named.
    """

    output: Path
    seed: int = 0
    preset: Preset = SEARCH_R1
    cold_start_steps: int | None = None
    from_scratch: bool = False
    steps: int | None = None
    samples_per_prompt: int = 8
    eval_every: int | None = None
    shown_questions: int = 32


class Quickstart:
    """One run: data, cold start, GRPO, held-out evaluation, report."""

    def __init__(self, config: QuickstartConfig, console: Console) -> None:
        self._config = config
        self._console = console
        self._artifacts = Artifacts(config.output)
        self._began = time.monotonic()
        self._summary: dict[str, Any] = {
            "seed": config.seed,
            "recipe": config.preset.name,
            "dialect": config.preset.policy_format.name,
            "interrupted": True,
        }

    def run(self) -> Mapping[str, Any]:
        """Runs all of it and returns the summary.

        An interruption at any point still writes the summary, curve and report of what was done, and is raised again.
        """
        self._artifacts.begin()
        transformers.utils.logging.disable_progress_bar()
        try:
            with progress_on(self._console) as progress:
                self._run(progress)
            self._summary["interrupted"] = False
        finally:
            self._finish()
        self._console.print(_closing_table(self._config.preset, self._summary, self._artifacts))
        return self._summary

    def _run(self, progress: Progress) -> None:
        config, artifacts = self._config, self._artifacts
        is_taught_here = config.from_scratch or config.cold_start_steps is not None
        taught = None if is_taught_here else shipped_start(config.preset)
        self._summary["start"] = "taught here" if taught is None else "shipped"
        beginnings = Beginnings(
            config.preset,
            artifacts,
            progress,
            seed=config.seed,
            steps=config.cold_start_steps,
            taught=taught,
            log=self._log,
        )
        data, model, tokenizer = beginnings.data, beginnings.model, beginnings.tokenizer
        self._summary["model_parameters"] = sum(p.numel() for p in model.parameters())
        with RetrieverProcess(data.corpus, artifacts.logs / "retriever.log") as retriever:
            try:
                frozen = beginnings.make_frozen_model()
                beginnings.make_policy()
            finally:
                self._summary.update(beginnings.seconds)
            retriever.wait_ready()

            def stack(frozen: Path | None) -> LocalStack:
                return LocalStack(
                    model,
                    tokenizer,
                    model_path=artifacts.cold_start_model,
                    weights_path=artifacts.model,
                    logs=artifacts.logs,
                    retriever=retriever,
                    seed=config.seed,
                    rollout_size=config.preset.prompts * config.samples_per_prompt,
                    preset=config.preset,
                    frozen=frozen,
                )

            if config.preset.alone is not None:
                start = copy.deepcopy(model.state_dict())
                with stack(None) as without:
                    self._learn(progress, model, without, data, alone=True)
                model.load_state_dict(start)
            with stack(frozen) as whole:
                self._learn(progress, model, whole, data)

    def _learn(
        self, progress: Progress, model: PreTrainedModel, stack: LocalStack, data: DatasetPaths, *, alone: bool = False
    ) -> None:
        """Reinforcement learning; ``alone`` without the preset's second model, to compare with."""
        config = self._config
        settings = LearningConfig(
            steps=config.steps or config.preset.steps,
            eval_every=config.eval_every or config.preset.eval_every,
            seed=config.seed,
            samples_per_prompt=config.samples_per_prompt,
            shown_questions=config.shown_questions,
        )
        learning = Learning(
            settings,
            config.preset,
            stack,
            data,
            progress,
            self._log,
            title="GRPO alone" if alone else "GRPO",
            phases=("train_alone", ALONE) if alone else ("train", "eval"),
            artifacts=None if alone else self._artifacts,
        )
        try:
            learning.run(model)
        finally:
            self._summary.update(summary_of(learning, alone=alone))

    def _log(self, phase: str, step: int, **values: float) -> None:
        wall_s = round(time.monotonic() - self._began, 2)
        self._artifacts.add_metrics({"phase": phase, "step": step, "wall_s": wall_s, **values})

    def _finish(self) -> None:
        artifacts, summary = self._artifacts, self._summary
        summary["wall_s"] = round(time.monotonic() - self._began, 1)
        artifacts.write_summary(summary)
        metrics = artifacts.read(artifacts.metrics)
        if "em_before" in summary:
            draw_curve(metrics, artifacts.curve, title=self._config.preset.title)
        if not summary["interrupted"]:
            trajectories = artifacts.read(artifacts.trajectories)
            write_report(
                artifacts.report,
                summary=summary,
                metrics=metrics,
                trajectories=trajectories,
                title=self._config.preset.title,
            )


def summary_of(learning: Learning, *, alone: bool) -> dict[str, Any]:
    """What the summary says of a learning, as far as it came."""
    if alone:
        return {"em_alone": {step: stats.em for step, stats in learning.scores.items()}}
    summary: dict[str, Any] = {"steps": learning.steps, "grpo_s": learning.seconds, "questions": learning.questions}
    for which, scores in (("", learning.scores), ("_greedy", learning.greedy_scores)):
        for step, stats in scores.items():
            stage = "after" if step else "before"
            summary[f"em_{stage}{which}"] = stats.em
            summary[f"em_two_hops_{stage}{which}"] = stats.em_two_hops
    return summary


def _closing_table(preset: Preset, summary: Mapping[str, Any], artifacts: Artifacts) -> Table:
    table = Table(title=preset.title, title_justify="left", show_header=True, header_style="bold")
    table.add_column("held-out exact match")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_row(
        f"sampled at T={preset.temperature:g}", f"{summary['em_before']:.1%}", f"[bold]{summary['em_after']:.1%}[/bold]"
    )
    table.add_row("greedy", f"{summary['em_before_greedy']:.1%}", f"{summary['em_after_greedy']:.1%}")
    table.caption = f"{summary['wall_s']:.0f} s in all. Open {artifacts.report}"
    table.caption_justify = "left"
    return table
