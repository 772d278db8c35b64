"""Everything that an evaluation's numbers depend on, as JSON that tells whether two evaluations are the same."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slime_search.recipes.base import recipe_in
from slime_search.rollouts.target import Target


def settings_of(
    target: Target,
    *,
    weights: Sequence[Path],
    own_services: bool,
    questions: Mapping[str, str],
    samples: int,
    temperature: float,
    turn_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """The settings of an evaluation.

    Args:
        weights: folders of the models that we serve ourselves, whose bytes count. Of a running server, for which there
            are none, address and model name do.
        own_services: retriever and Searcher are ours, too, as a quickstart's, and their addresses count for nothing.
        questions: what tells each data set's from others.
    """
    recipe = recipe_in(target.recipe)
    overlay = getattr(target.args, "slime_search", None)
    config = recipe.config(overlay).model_dump(mode="json") if recipe is not None else {}
    if own_services:
        _drop_ports(config)
    return {
        "recipe": target.name,
        "engine": {folder.name: weights_digest(folder) for folder in weights} or _engine_of(target),
        "data_sets": dict(questions),
        "samples": samples,
        "temperature": temperature,
        "turn_tokens": turn_tokens,
        "seed": seed,
        "config": config,
    }


def weights_digest(folder: Path) -> str:
    """A hash of the weights in ``folder``."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256 {whole.hexdigest()[:16]}"


def _engine_of(target: Target) -> dict[str, Any]:
    endpoint = target.args.endpoint
    return {
        "url": endpoint.url,
        "protocol": endpoint.protocol,
        "model": endpoint.model,
        "tokenizer": target.args.hf_checkpoint,
    }


def _drop_ports(config: dict[str, Any]) -> None:
    """Leaves the addresses of servers out that live only as long as one process evaluates."""
    config["local"].pop("search_url")
    config.pop("searcher_url", None)
