"""What a recipe needs on slime: its module, its configuration, and flags of its own."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slime_search.dialects.tool_calls import FunctionTool
from slime_search.errors import ConfigError
from slime_search.files import write_text, written_whole
from slime_search.local.presets import PRESETS, SEARCH_R1, Preset, preset_of
from slime_search.local.stack import MAX_CONTEXT_TOKENS
from slime_search.rehearsal.folder import RehearsalFolder
from slime_search.rehearsal.red import FLAGS as RED_FLAGS
from slime_search.rehearsal.red import write_rows

MODULE = "rehearsed_recipe"
TOOLS = "search-r1-tools"
CODA = "coda"
DEMONSTRATIONS_A_STEP = 32
NAMES = (SEARCH_R1.name, TOOLS, *(name for name in PRESETS if name != SEARCH_R1.name))


@dataclass(frozen=True)
class Rehearsed:
    """A recipe of ours, or a module of the user's on the policy of one of ours.

    ``module`` has ``generate`` and ``reward_func``; where it is ours, ``source`` is its text.
    """

    preset: Preset
    module: str
    source: str | None = None
    red: bool = False
    """Demonstrations are mixed into each step."""

    def config(self, addresses: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's dict: the quickstart's for this preset, with the ``addresses`` of its services."""
        common = {"max_corrections": 0, "format_score": 0.0, "max_context_tokens": MAX_CONTEXT_TOKENS}
        return {**common, **addresses, **self.preset.config}

    def write(self, folder: Path, addresses: Mapping[str, Any], demonstrations: Path) -> None:
        """Writes the module, if it is ours, and ``config.yaml``, as slime's --custom-config-path takes it.

        Args:
            demonstrations: the file that the policy once imitated, for RED.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.source is not None:
            write_text(folder / f"{self.module}.py", self.source)
        config: dict[str, Any] = {"slime_search": self.config(addresses)}
        if self.red:
            write_rows(demonstrations, folder / "sft.parquet")
            config["red"] = {"sft_data": str(folder / "sft.parquet"), "sft_batch_size": DEMONSTRATIONS_A_STEP}
        write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, width=120))

    def write_questions(self, start: Path, folder: RehearsalFolder) -> None:
        """Writes the quickstart's questions in ``start`` with the columns that this recipe's run script reads."""
        import pyarrow.parquet as pq

        for source, target in (("train", folder.train_questions), ("test", folder.test_questions)):
            table = pq.read_table(start / f"{source}.parquet")
            if self.calls_tools:
                schemas = json.dumps([tool.schema for tool in self._tools()])
                table = table.append_column("tools", [[schemas] * table.num_rows])
            with written_whole(target) as new:
                pq.write_table(table, new)

    def _tools(self) -> Sequence[FunctionTool]:
        kind: Any = self.preset.recipe
        tools: Sequence[FunctionTool] = kind.tools
        return tools

    def hooks(self) -> list[str]:
        """slime's flags that name the hooks, as the run scripts of the examples have them."""
        post_process = "slime_search.hooks.groups.normalize_rewards"
        more: list[str] = []
        if self.preset.grpo.opd_kl_coef:
            post_process = "slime_search.hooks.distillation.normalize_rewards"
            more = ["--use-opd", "--opd-type", "sglang", "--opd-kl-coef", str(self.preset.grpo.opd_kl_coef)]
            more += ["--rollout-data-postprocess-path", "slime_search.hooks.distillation.forget_unscored"]
        return [
            *("--custom-generate-function-path", f"{self.module}.generate"),
            *("--custom-rm-path", f"{self.module}.reward_func"),
            *("--custom-reward-post-process-path", post_process),
            *("--custom-rollout-log-function-path", "slime_search.hooks.metrics.log_rollout"),
            *("--custom-eval-rollout-log-function-path", "slime_search.hooks.metrics.log_eval"),
            *more,
            *(RED_FLAGS if self.red else ()),
        ]

    def columns(self) -> list[str]:
        """How slime reads questions: rendered for tags; as messages where the recipe renders them with its tools."""
        rendered = ["--tool-key", "tools"] if self.calls_tools else ["--apply-chat-template"]
        return ["--input-key", "prompt", "--label-key", "reward_model", *rendered]

    @property
    def calls_tools(self) -> bool:
        return self.preset.policy_format.name == "tools"


def rehearsed(recipe: str, dialect: str | None, *, red: bool = False) -> Rehearsed:
    """The recipe that ``--recipe`` names: one of ``NAMES``, or a module on PYTHONPATH.

    A module is tried on Search-R1's policy, which speaks ``dialect``.

    Raises:
        ConfigError: there is neither, or the recipe does not speak the dialect.
    """
    if recipe == TOOLS and dialect in (None, "tools"):
        recipe, dialect = SEARCH_R1.name, "tools"
    if recipe in PRESETS:
        preset = preset_of(recipe, dialect)
        if red and recipe != CODA:
            raise ConfigError(f"--red: --recipe {recipe} has none", f"leave it out, or take --recipe {CODA}")
        return Rehearsed(preset, MODULE, _source(preset), red)
    if not any((Path(folder) / f"{recipe.replace('.', '/')}{end}").exists() for folder in _path() for end in _ENDS):
        raise ConfigError(
            f"--recipe {recipe}: is not one of {', '.join(NAMES)}, nor a module on PYTHONPATH",
            "put the module's folder on PYTHONPATH",
        )
    return Rehearsed(preset_of(SEARCH_R1.name, dialect), recipe)


_ENDS = (".py", "/__init__.py")


def _path() -> list[str]:
    return [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


def _source(preset: Preset) -> str:
    kind: Any = preset.recipe
    return (
        f'"""{preset.title}: the hooks that slime calls. Their configuration is in config.yaml beside this file."""\n\n'
        f"from {kind.__module__} import {kind.__name__}\n\n"
        f"recipe = {kind.__name__}({{}})\n"
        "generate, reward_func = recipe.generate, recipe.reward_func\n"
    )
