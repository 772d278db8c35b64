"""The embedded counterpart of a training cluster: engine and retriever as processes, a recipe's hooks, a trainer."""

import shutil
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slime_search.config import ENV_PREFIX
from slime_search.local.presets import SEARCH_R1, SEARCHER_TURNS, Preset
from slime_search.local.rollouts import Rollouts
from slime_search.local.services import CPU_ENV, LocalService, ServiceDied, free_port
from slime_search.recipes.thinker_searcher.prompt import QUESTION
from slime_search.transport.readiness import ask

MAX_CONTEXT_TOKENS = 1024
TURN_TOKENS = 64


class RetrieverProcess(LocalService):
    """The retrieval server over one corpus file, with BM25."""

    def __init__(self, corpus: Path, log_path: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/retrieve"
        command = [
            sys.executable,
            "-m",
            "slime_search.cli",
            "serve-retriever",
            "--retriever_name",
            "bm25",
            # The encyclopedia's words are made up; a stemmer made for English would take some of them for others.
            "--bm25_language",
            "none",
            "--corpus_path",
            str(corpus),
        ]
        super().__init__(
            "retriever", [*command, "--port", str(port)], ready_url=f"http://127.0.0.1:{port}/ready", log_path=log_path
        )


class EngineProcess(LocalService):
    """The embedded CPU engine over one Hugging Face folder."""

    def __init__(self, model: Path, log_path: Path, *, seed: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "-m",
            "slime_search.cli",
            "serve-engine",
            "--model-path",
            str(model),
            "--port",
            str(self.port),
        ]
        super().__init__(
            "engine",
            [*command, "--seed", str(seed)],
            ready_url=f"{self.url}/model_info",
            log_path=log_path,
            env=CPU_ENV,
        )

    def update_weights(self, folder: Path, version: int) -> None:
        """Makes the engine load the weights in ``folder``, as slime's trainer does after each step."""
        update = {"model_path": str(folder), "weight_version": str(version), "flush_cache": True}
        answer = ask(f"{self.url}/update_weights_from_disk", payload=update, timeout_s=60)
        if not answer.ready:
            raise ServiceDied(f"the engine does not load the weights in {folder}: {answer.reason}")


class SearcherProcess(LocalService):
    """The Searcher service over a frozen model's engine."""

    def __init__(self, model: Path, engine: EngineProcess, retriever: RetrieverProcess, log_path: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/search"
        command = [
            sys.executable,
            "-m",
            "slime_search.cli",
            "serve-searcher",
            "--model",
            str(model),
            "--engine-url",
            engine.url,
        ]
        settings = {
            "LOCAL__SEARCH_URL": retriever.url,
            "MAX_CORRECTIONS": "0",
            "SEARCHER_PROMPT": QUESTION,
            "SEARCHER_MAX_TURNS": str(SEARCHER_TURNS),
            "SEARCHER_TURN_TOKENS": str(TURN_TOKENS),
            "SEARCHER_CONTEXT_TOKENS": str(MAX_CONTEXT_TOKENS),
        }
        super().__init__(
            "searcher",
            [*command, "--port", str(port)],
            ready_url=f"http://127.0.0.1:{port}/ready",
            log_path=log_path,
            env={f"{ENV_PREFIX}{name}": value for name, value in settings.items()},
        )


class LocalStack:
    """Everything a rollout needs, for use in a ``with`` block.

    Args:
        model: the policy as the trainer holds it; ``publish`` brings the engine up to date with it. None where nothing
            is trained.
        model_path: a folder with the tokenizer and the weights to begin with.
        weights_path: where each ``publish`` leaves the weights, so in the end the trained model.
        retriever: a retrieval server that is ready.
        rollout_size: samples a rollout, for the failure monitor.
        preset: the recipe and its configuration.
        frozen: the folder of the second model, where the preset has one. Without it the preset's
            recipe ``alone`` is run.
    """

    def __init__(
        self,
        model: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_path: Path,
        weights_path: Path,
        logs: Path,
        retriever: RetrieverProcess,
        seed: int,
        rollout_size: int,
        preset: Preset = SEARCH_R1,
        frozen: Path | None = None,
    ) -> None:
        self._model = model
        self._weights_path = weights_path
        self._version = 0
        self.tokenizer = tokenizer
        self._engine = EngineProcess(model_path, logs / "engine.log", seed=seed)
        self.args = slime_args(model_path, self._engine.port, rollout_size=rollout_size)
        self._others, found = second_model(preset, frozen, retriever, logs=logs, seed=seed)
        addresses: dict[str, Any] = {"local": {"search_url": retriever.url}, **found}
        # The answer's reward is exact match and nothing else, so that what is learned is what is measured.
        common = {"max_corrections": 0, "format_score": 0.0, "max_context_tokens": MAX_CONTEXT_TOKENS}
        self.has_teacher = "teacher" in addresses
        build = preset.recipe if frozen is not None or preset.alone is None else preset.alone
        self.recipe = build({**common, **addresses, **preset.config})
        self._stack = ExitStack()
        self.rollouts = Rollouts(self.recipe, self.args, max_new_tokens=TURN_TOKENS)

    def __enter__(self) -> "LocalStack":
        with ExitStack() as stack:
            stack.callback(self.rollouts.close)
            for service in (self._engine, *self._others):
                stack.enter_context(service)
            for service in (self._engine, *self._others):
                service.wait_ready()
            self._stack = stack.pop_all()
        return self

    def publish(self) -> None:
        """Sends the model's present weights to the engine, through the disk."""
        assert self._model is not None
        fresh = self._weights_path.with_name(self._weights_path.name + ".tmp")
        self._model.save_pretrained(fresh)
        self.tokenizer.save_pretrained(fresh)
        shutil.rmtree(self._weights_path, ignore_errors=True)
        fresh.replace(self._weights_path)
        self._version += 1
        self._engine.update_weights(self._weights_path, self._version)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def second_model(
    preset: Preset, frozen: Path | None, retriever: RetrieverProcess, *, logs: Path, seed: int
) -> tuple[list[LocalService], dict[str, Any]]:
    """The services over a preset's second model, and how the recipe's dict names them; none where there is no model."""
    if frozen is None or preset.frozen is None:
        return [], {}
    engine = EngineProcess(frozen, logs / "frozen_engine.log", seed=seed)
    if preset.frozen.serves == "teacher":
        return [engine], {"teacher": {"url": engine.url, "tokenizer": str(frozen), **preset.frozen.settings}}
    searcher = SearcherProcess(frozen, engine, retriever, logs / "searcher.log")
    return [engine, searcher], {"searcher_url": searcher.url}


def slime_args(model_path: Path, engine_port: int, *, rollout_size: int) -> Namespace:
    """The part of slime's arguments that the hooks read, with the values that slime's command line would give them."""
    defaults: dict[str, Any] = {
        "sglang_router_ip": "127.0.0.1",
        "sglang_router_port": engine_port,
        "sglang_server_concurrency": 512,
        "rollout_num_engines": 1,
        "hf_checkpoint": str(model_path),
        "rollout_batch_size": rollout_size,
        "n_samples_per_prompt": 1,
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
        "reward_key": None,
    }
    return Namespace(**defaults)
