"""The whole product on one CPU: a search agent that learns in minutes, on the code paths of a cluster run."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.samples import rollouts_of
from slime_search.local.artifacts import Artifacts
from slime_search.local.cold_start import cold_start
from slime_search.local.dataset import DatasetPaths, write_dataset
from slime_search.local.demonstrations import ONLY_ROLE, read_demonstrations
from slime_search.local.evaluation import rollout_stats, trajectory_record
from slime_search.local.grpo import GrpoConfig, GrpoTrainer
from slime_search.local.plays import SEARCH_R1, Play
from slime_search.local.policy import build_model, build_tokenizer, save_policy
from slime_search.local.rollouts import load_prompts
from slime_search.local.stage import RetrieverProcess, Stage
from slime_search.local.styles import Style
from slime_search.report.curve import draw_curve
from slime_search.report.page import write_report
from slime_search.tokens import TokenCodec


@dataclass(frozen=True, slots=True)
class QuickstartConfig:
    """What a run does. ``steps`` are GRPO steps of ``prompts`` questions with ``samples_per_prompt`` rollouts each.

    ``cold_start_steps`` None takes the play's.
    """

    output: Path
    seed: int = 0
    play: Play = SEARCH_R1
    cold_start_steps: int | None = None
    steps: int = 50
    prompts: int = 16
    samples_per_prompt: int = 8
    temperature: float = 1.0
    eval_every: int = 10
    shown_questions: int = 32
    grpo: GrpoConfig = field(default_factory=GrpoConfig)


class Quickstart:
    """One run: data, cold start, GRPO, held-out evaluation, report."""

    def __init__(self, config: QuickstartConfig, console: Console) -> None:
        self._config = config
        self._console = console
        self._artifacts = Artifacts(config.output)
        self._began = time.monotonic()
        self._summary: dict[str, Any] = {
            "seed": config.seed,
            "recipe": config.play.name,
            "dialect": config.play.style.name,
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
        self._console.print(_closing_table(self._config.play.title, self._summary, self._artifacts))
        return self._summary

    def _run(self, progress: Progress) -> None:
        config, artifacts = self._config, self._artifacts
        task = progress.add_task("Encyclopedia", total=1, note="inventing people, towns and companies")
        data = write_dataset(artifacts.data, config.seed, play=config.play)
        tokenizer = build_tokenizer(data.encyclopedia, config.play.style)
        model = build_model(tokenizer, config.seed)
        progress.update(task, completed=1, note=f"{data.documents:,} documents, {data.questions:,} questions")
        self._summary["model_parameters"] = sum(p.numel() for p in model.parameters())
        with RetrieverProcess(data.corpus, artifacts.logs / "retriever.log") as retriever:
            frozen = self._frozen_model(progress, tokenizer, data)
            self._cold_start(progress, model, tokenizer, data)
            save_policy(artifacts.cold_start_model, model, tokenizer)
            retriever.wait_ready()
            with Stage(
                model,
                tokenizer,
                model_path=artifacts.cold_start_model,
                weights_path=artifacts.model,
                logs=artifacts.logs,
                retriever=retriever,
                seed=config.seed,
                rollout_size=config.prompts * config.samples_per_prompt,
                play=config.play,
                frozen=frozen,
            ) as stage:
                self._learn(progress, model, stage, data)

    def _cold_start(
        self, progress: Progress, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: DatasetPaths
    ) -> None:
        play = self._config.play
        steps = self._config.cold_start_steps or play.cold_start_steps
        styles = {name: role.style for name, role in play.roles.items()}
        note = "imitating an imperfect teacher"
        self._imitate(progress, "cold_start", model, tokenizer, data.demonstrations, styles, steps, note)

    def _frozen_model(self, progress: Progress, tokenizer: PreTrainedTokenizerBase, data: DatasetPaths) -> Path | None:
        """The folder of the play's second model, trained by imitation, if it has one."""
        play = self._config.play
        if play.frozen is None:
            return None
        model = build_model(tokenizer, self._config.seed + 1)
        steps = self._config.cold_start_steps or play.frozen_steps
        styles = {ONLY_ROLE: play.frozen.style}
        note = "a second model imitates a skilled one, and is frozen"
        self._imitate(progress, "frozen", model, tokenizer, data.frozen_demonstrations, styles, steps, note)
        save_policy(self._artifacts.frozen_model, model, tokenizer)
        return self._artifacts.frozen_model

    def _imitate(
        self,
        progress: Progress,
        phase: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        demonstrations: Path,
        styles: Mapping[str, Style],
        steps: int,
        note: str,
    ) -> None:
        task = progress.add_task(phase.replace("_", " ").capitalize(), total=steps, note=note)
        began = time.monotonic()

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, note=f"loss {loss:.2f}")
            if step % 10 == 0:
                self._log(phase, step, loss=round(loss, 4))

        shown = list(read_demonstrations(demonstrations))
        cold_start(model, tokenizer, shown, steps=steps, seed=self._config.seed, styles=styles, on_step=on_step)
        self._summary[f"{phase}_s"] = round(time.monotonic() - began, 1)

    def _learn(self, progress: Progress, model: PreTrainedModel, stage: Stage, data: DatasetPaths) -> None:
        config = self._config
        render = config.play.style.renderer(stage.tokenizer)
        train, test = load_prompts(data.train, render), load_prompts(data.test, render)
        trainer = GrpoTrainer(model, config.grpo, pad_id=stage.tokenizer.pad_token_id, temperature=config.temperature)
        rng = random.Random(config.seed)
        self._summary["questions"] = len(test)
        self._evaluate(progress, stage, test, step=0)
        task = progress.add_task("GRPO", total=config.steps, note="")
        began = time.monotonic()
        for step in range(1, config.steps + 1):
            prompts = rng.sample(train, config.prompts)
            samples = stage.rollouts.collect(prompts, n=config.samples_per_prompt, temperature=config.temperature)
            _, advantages = normalize_rewards(stage.args, samples)
            update = trainer.step(samples, advantages)
            stage.publish()
            stats = rollout_stats(samples)
            self._log("train", step, **asdict(stats), **asdict(update))
            self._summary.update(steps=step, grpo_s=round(time.monotonic() - began, 1))
            progress.update(
                task, completed=step, note=f"reward {stats.reward:.2f}, {stats.searches:.1f} {config.play.searches}"
            )
            if step % config.eval_every == 0 or step == config.steps:
                self._evaluate(progress, stage, test, step=step)

    def _evaluate(self, progress: Progress, stage: Stage, test: Sequence[Any], *, step: int) -> None:
        """Scores the held-out questions; at both ends greedily too, and with the trajectories kept for the report."""
        samples = stage.rollouts.collect(test, n=1, temperature=self._config.temperature)
        stats = rollout_stats(samples)
        self._log("eval", step, **asdict(stats))
        self._summary["em_after" if step else "em_before"] = stats.em
        progress.console.print(
            f"  step {step:>3}: held-out exact match [bold]{stats.em:.1%}[/bold], of two hops {stats.em_two_hops:.1%}, "
            f"{stats.searches:.1f} {self._config.play.searches}"
        )
        if step not in (0, self._config.steps):
            return
        stage_name = "after" if step else "before"
        greedy = rollout_stats(stage.rollouts.collect(test, n=1, temperature=0.0))
        self._summary[f"em_{stage_name}_greedy"] = greedy.em
        codec = TokenCodec(stage.tokenizer)
        shown = [rollout[-1] for rollout in rollouts_of(samples)[: self._config.shown_questions]]
        self._artifacts.add_trajectories([trajectory_record(sample, codec, stage=stage_name) for sample in shown])

    def _log(self, phase: str, step: int, **values: float) -> None:
        wall_s = round(time.monotonic() - self._began, 2)
        self._artifacts.add_metrics({"phase": phase, "step": step, "wall_s": wall_s, **values})

    def _finish(self) -> None:
        artifacts, summary = self._artifacts, self._summary
        summary["wall_s"] = round(time.monotonic() - self._began, 1)
        artifacts.write_summary(summary)
        metrics = artifacts.read(artifacts.metrics)
        if "em_before" in summary:
            draw_curve(metrics, artifacts.curve, title=self._config.play.title)
        if not summary["interrupted"]:
            trajectories = artifacts.read(artifacts.trajectories)
            write_report(
                artifacts.report,
                summary=summary,
                metrics=metrics,
                trajectories=trajectories,
                title=self._config.play.title,
            )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<13}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )


def _closing_table(title: str, summary: Mapping[str, Any], artifacts: Artifacts) -> Table:
    table = Table(title=title, title_justify="left", show_header=True, header_style="bold")
    table.add_column("held-out exact match")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_row("sampled at T=1", f"{summary['em_before']:.1%}", f"[bold]{summary['em_after']:.1%}[/bold]")
    table.add_row("greedy", f"{summary['em_before_greedy']:.1%}", f"{summary['em_after_greedy']:.1%}")
    table.caption = f"{summary['wall_s']:.0f} s in all. Open {artifacts.report}"
    table.caption_justify = "left"
    return table
