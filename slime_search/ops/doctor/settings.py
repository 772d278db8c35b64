"""What the run scripts take from their environment, with their defaults."""

import importlib.util
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import slime_search
from slime_search.ops.launch.settings import LaunchSettings

CHECKOUT = Path(slime_search.__file__).parents[1]
_EXAMPLE = CHECKOUT / "examples" / "search_r1"

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "search-r1": ("search_r1", "generate_with_search"),
    "search-r1-tools": ("search_r1", "generate_with_search_oai"),
    "thinker-searcher": ("thinker_searcher", "generate_with_thinker"),
    "coda": ("coda", "generate_with_coda"),
    "distill": ("distillation", "search_agent_with_teacher"),
}
"""By the names that ``rollout --recipe`` takes: the folder of ``examples/`` and the module with the hooks."""

_SOURCED = re.compile(r"^\s*source\s.*?(?:\$\w+|\))/((?:\.\./)?[\w/]*\w\.sh)\"?\s*$", re.MULTILINE)
"""A script of which the folder is a variable or a command's output, and the rest written out."""

TURN_TOKENS = 512
"""--rollout-max-response-len of the run scripts: what a turn may take."""


class RunSettings(BaseSettings):
    """Each field is the environment variable of the same name in capitals; ``training.sh`` says what it means."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", protected_namespaces=())

    slime_home: Path = Path("/root/slime")
    megatron_home: Path = Path("/root/Megatron-LM")
    model: str = "qwen2.5-3B"
    hf_checkpoint: Path = Path("/root/Qwen2.5-3B")
    ref_load: Path | None = None
    save: Path | None = None
    num_gpus: int = Field(4, ge=1)
    tp: int = Field(2, ge=1)
    data: Path = Path("data")
    data_dir: Path | None = None
    max_context_len: int = Field(8192, ge=1)
    num_rollout: int = Field(3000, ge=1)
    save_interval: int = Field(100, ge=1)
    use_tis: bool = False
    custom_config: Path | None = None
    ray_address: str | None = None
    train_script: Path | None = None

    @property
    def reference(self) -> Path:
        """The checkpoint that Megatron starts from."""
        return self.ref_load or Path(f"{self.hf_checkpoint}_torch_dist")

    @property
    def saved(self) -> Path:
        """Where checkpoints go."""
        return self.save or Path(f"{self.hf_checkpoint}_slime")

    @cached_property
    def scripts(self) -> Path | None:
        """The folder of the training script, which it puts on PYTHONPATH; that of the hooks where none is named."""
        if self.train_script is not None:
            return self.train_script.absolute().parent
        if _EXAMPLE.is_dir():
            return _EXAMPLE
        found = importlib.util.find_spec(self.recipe)
        return Path(found.origin).parent if found and found.origin else None

    @property
    def downloaded(self) -> Path:
        """Where run_with_retrieval.sh looks for corpus and index that are not named."""
        return self.data_dir or (self.scripts or Path()) / "local_dense_retriever" / "data"

    @property
    def recipe(self) -> str:
        """The module with the hooks: what the training script names, else Search-R1 with tags."""
        return self._written(r"^\s*RECIPE=(\S+)") or "generate_with_search"

    def flag(self, name: str) -> str | None:
        """What the training script, or else one that it sources, writes behind a flag of slime's."""
        return self._written(rf"^\s*{name}\s+(\S+)")

    def sets(self, name: str) -> bool:
        """Whether the training script itself gives a flag without a value; what it sources may do so on a condition."""
        own = self._texts[0] if self._texts else ""
        return re.search(rf"^[^#\n]*(?<![\w-]){name}(?=[\s)]|$)", own, re.MULTILINE) is not None

    def _written(self, pattern: str) -> str | None:
        found = [match for text in self._texts if (match := re.search(pattern, text, re.MULTILINE))]
        return found[0][1].strip("\"')") if found else None

    @cached_property
    def _texts(self) -> list[str]:
        """The training script, and what it sources from beside it."""
        script = self.train_script
        if script is None or not script.is_file():
            return []
        text = script.read_text(errors="replace")
        beside = [script.parent / name for name in _SOURCED.findall(text)]
        return [text, *(path.read_text(errors="replace") for path in beside if path.is_file())]

    def python_path(self) -> str:
        """PYTHONPATH of the training."""
        package = [CHECKOUT] if (CHECKOUT / "pyproject.toml").is_file() else []
        folders = [self.slime_home, self.megatron_home, *package, *([self.scripts] if self.scripts else [])]
        given = os.environ.get("PYTHONPATH")
        return os.pathsep.join([*map(str, folders), *([given] if given else [])])


def launch_settings(run: RunSettings, **given: Any) -> LaunchSettings:
    """The settings of ``run_with_retrieval.sh``, with its defaults for what is not ``given``."""
    settings = LaunchSettings(_env_ignore_empty=True, **{name: value for name, value in given.items() if value})
    corpus, index = run.downloaded / "wiki-18.jsonl", run.downloaded / "e5_Flat.index"
    packed = corpus.with_name(f"{corpus.name}.gz")
    if packed.exists() and not corpus.exists():
        corpus = packed
    missing = {"corpus_path": corpus, "index_path": index}
    return settings.model_copy(update={name: path for name, path in missing.items() if getattr(settings, name) is None})
