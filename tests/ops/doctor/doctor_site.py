"""A user's machine in a folder: a checkout of slime that is small, a model, questions, a corpus, and its own PATH."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slime_search.data.prompts import chat_row, search_r1_row, write_parquet
from slime_search.data.questions import Question
from slime_search.ops.doctor.results import Result, Status
from slime_search.ops.doctor.settings import RunSettings, launch_settings
from slime_search.ops.doctor.setup import Setup
from tests.support.processes import free_port
from tests.support.small_slime import save_slime
from tests.support.tokenizers import save_qwen_like, save_with_tools_template

ROOT = Path(__file__).parents[3]
_TOLD = {*map(str.upper, RunSettings.model_fields), "INDEX_PATH", "CORPUS_PATH", "CUDA_VISIBLE_DEVICES"}
_TOLD |= {"RETRIEVER_NAME", "RETRIEVER_MODEL", "RETRIEVER_OPTIONS", "RETRIEVAL_SERVER_URL"}


def save_weights(folder: Path, *, vocabulary: int = 1000, positions: int = 8192, size: int = 4000) -> Path:
    """What a checkpoint holds beside its tokenizer. The weights are as long as real ones, and mean nothing."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


class Site:
    """Everything is there but a GPU; ``change`` sets environment variables."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        for name in _TOLD:
            monkeypatch.delenv(name, raising=False)
        self._programs = folder / "bin"
        self._programs.mkdir()
        self.gpus()
        own = Path(sys.executable).parent
        monkeypatch.setenv("PATH", os.pathsep.join(map(str, (self._programs, own, os.environ["PATH"]))))
        monkeypatch.chdir(folder)
        self.port = free_port()
        self.change(
            SLIME_HOME=save_slime(folder / "slime"),
            MEGATRON_HOME=folder / "megatron",
            HF_CHECKPOINT=save_weights(save_qwen_like(folder / "model")),
            DATA=self._questions(folder / "data"),
            CORPUS_PATH=self._corpus(),
            RETRIEVER_NAME="bm25",
            RETRIEVAL_SERVER_URL=f"http://127.0.0.1:{self.port}",
        )

    def change(self, **variables: object) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, str(value))

    def gpus(self, count: int = 0, *, gigabytes: int = 80, used: int = 0) -> None:
        """What nvidia-smi tells from now on."""
        mib = (gigabytes << 10, (gigabytes - used) << 10)
        lines = "".join(f"echo 'NVIDIA H200, {mib[0]}, {mib[1]}'\n" for _ in range(count))
        self.program("nvidia-smi", lines or "exit 9\n")

    def program(self, name: str, body: str) -> None:
        path = self._programs / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)

    def distribution(self, name: str, version: str) -> None:
        """What a package says of its version to the Python that trains."""
        folder = self.folder / "megatron" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def setup(self, **given: Any) -> Setup:
        """As the command makes it from the environment."""
        run = RunSettings()
        return Setup(
            run=run,
            launch=launch_settings(run),
            recipe_name=given.pop("recipe_name", run.recipe),
            train_data=run.data / "train.parquet",
            eval_data=sorted((run.data / "test").glob("*.parquet")),
            **given,
        )

    def doctor(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "slime_search.cli", "doctor", *arguments]
        environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)

    def for_tools(self) -> None:
        """The recipe with tool calls, a model whose template knows them, and questions for it."""
        data = self.folder / "chat"
        write_parquet(data / "train.parquet", [chat_row(Question("", "0", "Who?", ("Ada",)))])
        self.change(
            DATA=data,
            HF_CHECKPOINT=save_weights(save_with_tools_template(self.folder / "tools-model")),
            TRAIN_SCRIPT=ROOT / "examples/search_r1/run_qwen2.5_3B_oai.sh",
        )

    def _questions(self, folder: Path) -> Path:
        for name in ("train", "test/nq"):
            questions = [Question("nq", str(n), f"who wrote text {n}", ("Ada",)) for n in range(9)]
            rows = [search_r1_row(question, split=name, index=n) for n, question in enumerate(questions)]
            write_parquet(folder / f"{name}.parquet", rows)
        return folder

    def _corpus(self) -> Path:
        path = self.folder / "corpus.jsonl"
        rows = [{"id": str(n), "contents": f'"title {n}"\ntext {n} who wrote'} for n in range(20)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


def the(results: list[Result], name: str) -> Result:
    """The one of that name."""
    (result,) = [result for result in results if result.name == name]
    return result


def statuses(results: list[Result]) -> dict[str, Status]:
    return {result.name: result.status for result in results}
