"""The page of every configuration key: ``python -m slime_search.reference.configuration > docs/configuration.md``."""

import inspect
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from slime_search.config import SearchConfig, Section
from slime_search.hooks.red.config import RedConfig
from slime_search.recipes.coda.config import CodaConfig
from slime_search.recipes.distillation.config import DistillConfig, SearchToolConfig
from slime_search.recipes.thinker_searcher.config import ThinkerConfig

INTRODUCTION = """\
# Configuration

A recipe's settings are read from three places, and the later one wins, key by key:

1. the config dict at the top of the example's module, such as `SEARCH_R1_CONFIGS` in
   [`generate_with_search.py`](../examples/search_r1/generate_with_search.py);
2. `slime_search:` in slime's `--custom-config-path`, a YAML file that the run scripts name by `CUSTOM_CONFIG`:

   ```yaml
   slime_search:
     max_turns: 3
     local:
       search_url: http://10.0.0.5:8000/retrieve
   ```

3. the environment: `SLIME_SEARCH_MAX_TURNS=3`, and with two underscores inside a section,
   `SLIME_SEARCH_LOCAL__SEARCH_URL=http://10.0.0.5:8000/retrieve`. Lists and mappings are written as JSON,
   and none as `null`.

Dict and environment are checked when the module is imported, the YAML file with the first rollout, and all of them by
[`slime-search doctor`](doctor.md); an error names the key, its value and what is allowed.

Secrets belong in the environment alone: `SERPER_API_KEY` (Google search), `SLIME_SEARCH_RETRIEVER_TOKEN` (the bearer
token of a retrieval server, for server and client), `SLIME_SEARCH_TEACHER__API_KEY`, `SEARCHER_ENGINE_KEY`, and
`WANDB_API_KEY`. The variables of the run scripts are in [run-scripts.md](run-scripts.md).

This page is made by `python -m slime_search.reference.configuration` from the code.
"""

REFERENCE: dict[str, type[BaseSettings]] = {
    "Every recipe": SearchConfig,
    "Thinker and Searcher, and `serve-searcher`": ThinkerConfig,
    "CoDA": CodaConfig,
    "Search tool": SearchToolConfig,
    "Distillation": DistillConfig,
    "RED": RedConfig,
}
"""A recipe that has keys of its own is one more line."""

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_NAMES: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true, false",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple: "list",
    dict: "mapping",
    type(None): "null",
}
_SHOWN_CHARS = 60


def reference() -> str:
    """The whole page, as Markdown."""
    return "\n".join([INTRODUCTION, *(_part(title, kind) for title, kind in REFERENCE.items())])


def _part(title: str, kind: type[BaseSettings]) -> str:
    head = "| key, and its variable | values | default | meaning |\n|---|---|---|---|"
    rows = [_row(kind, key, field) for key, field in _fields(kind)]
    return "\n".join([f"## {title}\n", f"{_markdown(inspect.getdoc(kind) or '')}\n", head, *rows, ""])


def _fields(kind: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that a class declares itself, with those of its sections by their whole keys."""
    for name in inspect.get_annotations(kind):
        field = kind.model_fields.get(name)
        if field is None:
            continue
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from ((f"{name}.{key}", inner) for key, inner in _fields(section))
        else:
            yield name, field


def _row(kind: type[BaseSettings], key: str, field: FieldInfo) -> str:
    variable = str(kind.model_config["env_prefix"]) + key.replace(".", "__").upper()
    cells = f"`{key}`<br>`{variable}`", _values(field), _default(field), _markdown(field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in _BOUNDS.items()
        if hasattr(bound, name)
    ]
    kinds = list(_kinds(field.annotation))
    words = [kind for kind in kinds if kind != "null"]
    allowed = ", ".join([" or ".join(words) + f" {bounds[0]}", *bounds[1:]]) if bounds else " or ".join(words)
    return f"{allowed}, or null" if "null" in kinds else allowed


def _kinds(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) in (Union, types.UnionType):
        for choice in get_args(annotation):
            yield from _kinds(choice)
    elif get_origin(annotation) is Literal:
        yield ", ".join(f"`{choice}`" for choice in get_args(annotation))
    else:
        yield _NAMES[get_origin(annotation) or annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, str) and len(value) > _SHOWN_CHARS:
        return "a text"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _markdown(text: str) -> str:
    """A docstring in one line, or in paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.replace("``", "`").split("\n\n"))


if __name__ == "__main__":
    sys.stdout.write(reference())
