"""The whole product on one CPU: a search agent that learns in minutes, on the code paths of a cluster run."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slime_search.local.artifacts import Artifacts
from slime_search.local.cold_start import LEARNING_RATE, RELUCTANCE_LEARNING_RATE, cold_start
from slime_search.local.dataset import DatasetPaths, write_dataset
from slime_search.local.demonstrations import ONLY_ROLE, read_demonstrations
from slime_search.local.learning import Learning, LearningConfig
from slime_search.local.policy import build_model, build_tokenizer, save_policy
from slime_search.local.policy_format import PolicyFormat
from slime_search.local.presets import SEARCH_R1, Preset
from slime_search.local.stack import LocalStack, RetrieverProcess
from slime_search.viewer.curve import ALONE, draw_curve
from slime_search.viewer.report import write_report

RELUCTANCE_STEPS = 60


@dataclass(frozen=True, slots=True)
class QuickstartConfig:
    """What a run does. ``steps`` are GRPO steps, with ``samples_per_prompt`` rollouts of each question.

    Where a number of steps is None it is the preset's.
    """

    output: Path
    seed: int = 0
    preset: Preset = SEARCH_R1
    cold_start_steps: int | None = None
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
            with _progress(self._console) as progress:
                self._run(progress)
            self._summary["interrupted"] = False
        finally:
            self._finish()
        self._console.print(_closing_table(self._config.preset, self._summary, self._artifacts))
        return self._summary

    def _run(self, progress: Progress) -> None:
        config, artifacts = self._config, self._artifacts
        task = progress.add_task("Encyclopedia", total=1, note="inventing people, towns and companies")
        data = write_dataset(artifacts.data, config.seed, preset=config.preset)
        tokenizer = build_tokenizer(data.encyclopedia, config.preset.policy_format)
        model = build_model(tokenizer, config.seed)
        progress.update(task, completed=1, note=f"{data.documents:,} documents, {data.questions:,} questions")
        self._summary["model_parameters"] = sum(p.numel() for p in model.parameters())
        with RetrieverProcess(data.corpus, artifacts.logs / "retriever.log") as retriever:
            frozen = self._frozen_model(progress, tokenizer, data)
            self._cold_start(progress, model, tokenizer, data)
            save_policy(artifacts.cold_start_model, model, tokenizer)
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

    def _cold_start(
        self, progress: Progress, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: DatasetPaths
    ) -> None:
        preset = self._config.preset
        steps = self._config.cold_start_steps or preset.cold_start_steps
        formats = {name: role.policy_format for name, role in preset.roles.items()}
        note = "imitating an imperfect teacher"
        self._imitate(progress, "cold_start", model, tokenizer, data.demonstrations, formats, steps, note)
        if preset.reluctance is not None:
            steps = self._config.cold_start_steps or RELUCTANCE_STEPS
            shown, note = data.reluctant_demonstrations, "imitating one who hardly searches"
            self._imitate(
                progress,
                "reluctance",
                model,
                tokenizer,
                shown,
                formats,
                steps,
                note,
                learning_rate=RELUCTANCE_LEARNING_RATE,
            )

    def _frozen_model(self, progress: Progress, tokenizer: PreTrainedTokenizerBase, data: DatasetPaths) -> Path | None:
        """The folder of the preset's second model, trained by imitation, if it has one."""
        preset = self._config.preset
        if preset.frozen is None:
            return None
        if preset.frozen.vocabulary is not None:
            tokenizer = build_tokenizer(data.encyclopedia, preset.policy_format, vocabulary=preset.frozen.vocabulary)
        model = build_model(tokenizer, self._config.seed + 1)
        steps = self._config.cold_start_steps or preset.frozen.steps
        formats = {ONLY_ROLE: preset.frozen.role.policy_format}
        note = "a second model imitates a skilled one, and is frozen"
        self._imitate(progress, "frozen", model, tokenizer, data.frozen_demonstrations, formats, steps, note)
        save_policy(self._artifacts.frozen_model, model, tokenizer)
        return self._artifacts.frozen_model

    def _imitate(
        self,
        progress: Progress,
        phase: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        demonstrations: Path,
        formats: Mapping[str, PolicyFormat],
        steps: int,
        note: str,
        *,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        task = progress.add_task(phase.replace("_", " ").capitalize(), total=steps, note=note)
        began = time.monotonic()

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, note=f"loss {loss:.2f}")
            if step % 10 == 0:
                self._log(phase, step, loss=round(loss, 4))

        shown = list(read_demonstrations(demonstrations))
        cold_start(
            model,
            tokenizer,
            shown,
            steps=steps,
            seed=self._config.seed,
            formats=formats,
            on_step=on_step,
            learning_rate=learning_rate,
        )
        self._summary[f"{phase}_s"] = round(time.monotonic() - began, 1)

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


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<13}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )


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
