"""One rehearsal, from the policy to its trained model: every service started, every stage run, everything stopped."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console

from slime_search.errors import SlimeSearchError
from slime_search.files import write_text
from slime_search.local.progress import progress_on
from slime_search.local.stack import MAX_CONTEXT_TOKENS, TURN_TOKENS, RetrieverProcess, second_model
from slime_search.rehearsal.arguments import TEST_SET, Plan, as_script, slime_arguments
from slime_search.rehearsal.conversion import from_slime
from slime_search.rehearsal.folder import RehearsalFolder
from slime_search.rehearsal.installation import Installation
from slime_search.rehearsal.python_path import python_path
from slime_search.rehearsal.recipes import Rehearsed
from slime_search.rehearsal.services import RouterProcess, SglangProcess
from slime_search.rehearsal.stages import ON_GPUS
from slime_search.rehearsal.starting import make_start
from slime_search.rehearsal.training import train, training_environment
from slime_search.rehearsal.watching import Watch, training_dumps


class StageFailed(SlimeSearchError):
    """A command of ours that a stage consists of ended with an error; its own message was printed before."""


@dataclass(frozen=True)
class RehearsalConfig:
    """What is rehearsed. ``slime_flags`` come last on slime's command line, and win.

    ``cold_start_steps`` is None for the preset's. ``script`` is the module of slime's that trains.
    """

    folder: RehearsalFolder
    recipe: Rehearsed
    installed: Installation
    steps: int
    seed: int = 0
    cold_start_steps: int | None = None
    ranks: int = 1
    script: str = "train"
    slime_flags: Sequence[str] = ()


@dataclass
class Rehearsal:
    """Runs the stages in order, and says after each what a run on GPUs does alike."""

    config: RehearsalConfig
    console: Console
    summary: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Mapping[str, Any]:
        """Returns the summary, which is also written where a stage behind the policy fails.

        Raises:
            SlimeSearchError: a stage failed.
        """
        config = self.config
        transformers.utils.logging.disable_progress_bar()
        self.summary |= {"recipe": config.recipe.preset.name, "dialect": config.recipe.preset.policy_format.name}
        self.summary |= {"module": config.recipe.module, "seed": config.seed, "steps": config.steps}
        # What fails before this leaves an earlier rehearsal's summary alone.
        self._stage("installation", config.installed.check)
        self._stage("policy", self._make_start)
        try:
            with ExitStack() as stack:
                self._with_services(stack)
            self._stage("records", self._show_records)
        finally:
            write_text(config.folder.summary, json.dumps(self.summary, indent=2) + "\n")
        return self.summary

    def _with_services(self, stack: ExitStack) -> None:
        services = self._stage("services", lambda: _Services(self.config, stack))
        self._stage("doctor", lambda: self._consult_the_doctor(services))
        self._stage("before", lambda: self._evaluate("before", services))
        self._stage("training", lambda: self._train(services))
        self._stage("export", self._export)
        self._stage("after", lambda: self._evaluate("after", services))

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        self.console.rule(f"[bold]{name}", align="left")
        began = time.monotonic()
        done = work()
        self.summary[f"{name}_s"] = round(time.monotonic() - began, 1)
        self.console.print(f"[dim]{ON_GPUS[name]}[/dim]", highlight=False)
        return done

    def _make_start(self) -> None:
        config = self.config
        make_start(
            config.folder,
            config.recipe.preset,
            seed=config.seed,
            steps=config.cold_start_steps,
            console=self.console,
            say=lambda text: self.console.print(text, soft_wrap=True, highlight=False),
        )

    def _consult_the_doctor(self, services: "_Services") -> None:
        config, folder = self.config, self.config.folder
        options = ["--config", str(folder.config), "--recipe", config.recipe.module]
        options += ["--hf-checkpoint", str(folder.policy), "--engine-url", services.router.url, "--json"]
        options += ["--train-data", str(folder.train_questions)]
        options += ["--eval-data", str(folder.test_questions)]
        environment = {
            # It asks the python3 that a run script would find.
            "PATH": os.pathsep.join([str(config.installed.slime_python.parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": services.python_path,
            "SLIME_HOME": str(config.installed.slime_home),
            "MEGATRON_HOME": str(config.installed.megatron_home),
            "TRAIN_SCRIPT": str(folder.script),
            "REF_LOAD": str(folder.policy),
            "SAVE": str(folder.checkpoints),
            "MAX_CONTEXT_LEN": str(MAX_CONTEXT_TOKENS),
            "RETRIEVAL_SERVER_URL": services.retriever.url.removesuffix("/retrieve"),
            "CORPUS_PATH": str(folder.start.data / "corpus.jsonl"),
            "RETRIEVER_NAME": "bm25",
        }
        report = json.loads(_ours("doctor", options, environment, capture=True).stdout or "{}")
        self.console.print(report.get("verdict", "it told nothing"), markup=False, highlight=False)
        for check in report.get("checks", ()):
            if check["status"] in ("fail", "warn"):
                found = f"{check['status']}: {check['name']}: {check['found']}"
                self.console.print(found, markup=False, highlight=False, soft_wrap=True)

    def _evaluate(self, when: str, services: "_Services") -> None:
        """Asks the engine, which has the weights of the moment, the held-out questions."""
        config, folder = self.config, self.config.folder
        output = folder.evaluation(when)
        options = ["--recipe", config.recipe.module, "--config", str(folder.config)]
        options += ["--engine-url", services.router.url, "--checkpoint", str(folder.policy)]
        options += ["--test-set", f"{TEST_SET}={folder.test_questions}"]
        options += ["--temperature", str(config.recipe.preset.temperature), "--turn-tokens", str(TURN_TOKENS)]
        options += ["--seed", str(config.seed), "--output", str(output), "--fresh"]
        _must(_ours("evaluate", options, {"PYTHONPATH": _with(os.environ, folder.hooks)}), "evaluate")
        self.summary[f"em_{when}"] = json.loads((output / "summary.json").read_text())["average"]["em"]

    def _train(self, services: "_Services") -> None:
        config, folder = self.config, self.config.folder
        environment = training_environment(
            config.installed,
            services.python_path,
            tensorboard=folder.tensorboard,
            ranks=config.ranks,
            script=config.script,
        )
        with progress_on(self.console) as progress:
            train(
                config.installed.slime_python,
                services.slime_arguments,
                environment,
                log_path=folder.logs / "training.log",
                watch=Watch(folder.dumps, progress, config.steps),
            )

    def _export(self) -> None:
        folder = self.config.folder
        saved = sorted(folder.checkpoints.glob("hf_*"), key=lambda path: int(path.name.removeprefix("hf_")))
        if not saved:
            raise StageFailed(f"{folder.checkpoints}: slime has left no hf_N there", "leave --save-hf as it is")
        shutil.rmtree(folder.model, ignore_errors=True)
        from_slime(saved[-1], folder.model)

    def _show_records(self) -> None:
        folder = self.config.folder
        _must(_ours("curves", [str(folder.dumps), "--output", str(folder.curve)]), "curves")
        dumps = training_dumps(folder.dumps)
        ends = [str(path) for path in dict.fromkeys((dumps[0], dumps[-1]))]
        _must(_ours("view", [*ends, "--tokenizer", str(folder.policy), "--export", str(folder.page)]), "view")


class _Services:
    """Everything that answers while a rehearsal goes on."""

    def __init__(self, config: RehearsalConfig, stack: ExitStack) -> None:
        folder, preset, python = config.folder, config.recipe.preset, config.installed.sglang_python
        self.python_path = python_path(folder.root / "python", [folder.hooks])
        self.retriever = RetrieverProcess(folder.start.data / "corpus.jsonl", folder.logs / "retriever.log")
        self.engine = SglangProcess(
            python, folder.policy, folder.logs / "engine.log", python_path=self.python_path, seed=config.seed
        )
        self.router = RouterProcess(python, folder.logs / "router.log", python_path=self.python_path)
        frozen = folder.start.frozen_model if preset.frozen is not None else None
        others, addresses = second_model(preset, frozen, self.retriever, logs=folder.logs, seed=config.seed)
        addresses = {"local": {"search_url": self.retriever.url}, **addresses}
        config.recipe.write_questions(folder.start.data, folder)
        config.recipe.write(folder.hooks, addresses, folder.start.data / "demonstrations.jsonl")
        for service in (self.retriever, self.engine, self.router, *others):
            stack.enter_context(service)
        for service in (self.retriever, self.engine, self.router, *others):
            service.wait_ready()
        self.router.add(self.engine)
        plan = Plan(
            folder, config.recipe, config.steps, config.seed, self.engine.port, self.router.port, ranks=config.ranks
        )
        self.slime_arguments = slime_arguments(plan, config.slime_flags)
        write_text(folder.script, as_script(config.recipe.module, self.slime_arguments))
        folder.script.chmod(0o755)


def _with(environment: Mapping[str, str], folder: Path) -> str:
    """PYTHONPATH with a folder in front."""
    return os.pathsep.join(filter(None, [str(folder), environment.get("PYTHONPATH", "")]))


def _ours(
    command: str, options: Sequence[str], environment: Mapping[str, str] | None = None, *, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a subcommand of this package, as its user would."""
    return subprocess.run(
        [sys.executable, "-m", "slime_search.cli", command, *options],
        env={**os.environ, **(environment or {})},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else None,
        check=False,
    )


def _must(done: subprocess.CompletedProcess[str], command: str) -> None:
    if done.returncode:
        raise StageFailed(f"slime-search {command} ended with code {done.returncode}", "see its message above")
