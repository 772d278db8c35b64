"""The set-up that is looked at: the options and variables given, and what several checks need to know of it."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from slime_search.config import SearchConfig, load_config
from slime_search.core.tokens import Tokenizer
from slime_search.errors import ConfigError
from slime_search.hooks.runtime import runtime
from slime_search.ops.doctor.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from slime_search.ops.doctor.gpus import Gpu, visible_gpus
from slime_search.ops.doctor.results import Waits
from slime_search.ops.doctor.settings import CHECKOUT, EXAMPLES, RunSettings
from slime_search.ops.launch.settings import LaunchSettings
from slime_search.recipes.base import SearchRecipe, recipe_in
from slime_search.recipes.search_r1_tools import SearchR1Tools
from slime_search.recipes.thinker_searcher.config import ThinkerConfig
from slime_search.transport import readiness


@dataclass
class Setup:
    """What is to be run.

    The properties raise Waits where another check has reported already what is wrong with them.
    """

    run: RunSettings
    launch: LaunchSettings
    recipe_name: str
    config_file: Path | None = None
    train_data: Path = Path("data/train.parquet")
    eval_data: Sequence[Path] = ()
    slime_flags: Sequence[str] = ()
    """Options of slime's that the training script will be given."""
    engine_url: str | None = None
    token: str | None = None
    """The retrieval server's."""
    measures_coverage: bool = False
    coverage_questions: int = 500
    """Of each data set, that a running retriever is asked at most."""
    tell: Callable[[str], object] = lambda doing: None
    """Told what a check that takes minutes is at."""
    longest_prompt: int = 0
    """Tokens of the longest one in the data, once that was looked at."""

    @cached_property
    def module(self) -> ModuleType:
        """The module with the hooks. Raises ConfigError or ImportError."""
        folder, name = self.run.scripts, self.recipe_name
        if name in EXAMPLES:
            folder, name = CHECKOUT / "examples" / EXAMPLES[name][0], EXAMPLES[name][1]
        if folder is not None and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        try:
            return importlib.import_module(name)
        except (ConfigError, ImportError):
            raise
        except Exception as error:  # somebody's module may raise anything
            raise ImportError(f"{type(error).__name__}: {error}") from error

    @cached_property
    def recipe(self) -> SearchRecipe[Any] | None:
        """The recipe in the module; None where it holds none, or can't be imported."""
        try:
            return recipe_in(self.module)
        except (ImportError, ConfigError):
            return None

    @property
    def calls_tools(self) -> bool:
        """Whether the policy calls functions, and does not write tags."""
        return isinstance(self.recipe, SearchR1Tools)

    def read_config(self) -> SearchConfig:
        """Raises ConfigError."""
        overlay = read_overlay(self.config_file) if self.config_file else None
        return self.recipe.config(overlay) if self.recipe else load_config({}, overlay)

    @cached_property
    def config(self) -> SearchConfig:
        try:
            return self.read_config()
        except ConfigError:
            raise Waits("the configuration has to be valid first") from None

    @property
    def tool_turns(self) -> int:
        """Turns of the policy that call a tool, at most."""
        config = self.config
        return config.thinker_max_turns if isinstance(config, ThinkerConfig) else config.max_turns

    @cached_property
    def checkpoint(self) -> Checkpoint:
        try:
            return read_checkpoint(self.run.hf_checkpoint)
        except CheckpointError:
            raise Waits("HF_CHECKPOINT has to be readable first") from None

    def load_tokenizer(self) -> Tokenizer:
        """As the hooks do. Raises OSError or ValueError."""
        return runtime(SimpleNamespace(hf_checkpoint=str(self.run.hf_checkpoint))).tokenizer

    @cached_property
    def tokenizer(self) -> Any:
        _ = self.checkpoint
        try:
            return self.load_tokenizer()
        except (OSError, ValueError, ImportError):
            raise Waits("the tokenizer has to load first") from None

    @cached_property
    def gpus(self) -> Sequence[Gpu]:
        return visible_gpus()

    @property
    def search_urls(self) -> tuple[str, ...]:
        """Where the run will search: ``run_with_retrieval.sh`` overrides the recipe."""
        if "retrieval_server_url" in self.launch.model_fields_set:
            return (f"{self.launch.retrieval_server_url}/retrieve",)
        return self.config.local.search_urls

    @cached_property
    def readiness(self) -> Mapping[str, readiness.Readiness]:
        """Of each retrieval server."""
        proxy = self.config.local.proxy
        return {
            url: readiness.ask_retriever(url.removesuffix("/retrieve"), token=self.token, proxy=proxy)
            for url in self.search_urls
        }

    @cached_property
    def starts_retriever(self) -> bool:
        """Whether ``run_with_retrieval.sh`` is to start the retrieval server on this machine."""
        if self.config.search_backend != "local" or not self.launch.is_local:
            return False
        own = f"{self.launch.retrieval_server_url}/retrieve"
        (only, *others) = self.search_urls
        return only == own and not others and not self.readiness[only].answers


def read_overlay(path: Path) -> Mapping[str, Any] | None:
    """``slime_search`` of slime's ``--custom-config-path`` YAML; None where it has none.

    Raises:
        ConfigError: it can't be read, or holds something else.
    """
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise ConfigError("PyYAML is not installed, with which slime reads the file: pip install pyyaml") from None
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content or {}, Mapping):
        raise ConfigError(f"{path}: holds {content!r}; write a mapping, such as slime_search: {{topk: 5}}")
    overlay: Mapping[str, Any] | None = (content or {}).get("slime_search")
    return overlay
