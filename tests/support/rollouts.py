"""One sample through the Search-R1 recipe against the scripted servers, without slime."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slime_search.hooks.contract import LocalSample
from slime_search.recipes.search_r1 import SearchR1
from slime_search.transport.client import close_sessions
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

PROMPT = "<|im_start|>user\nWho made thing-{number}?<|im_end|>\n<|im_start|>assistant\n"


def passage(query: str) -> list[str]:
    """Every thing was made by the name of the same number."""
    words = [word for word in query.split() if word.startswith("thing-")]
    return [f"About {word}\nIt was made by name-{word.removeprefix('thing-')} long ago." for word in words]


def sampling_params(**overrides: Any) -> dict[str, Any]:
    """The fields that slime's rollout sends."""
    return {
        "temperature": 1.0,
        "top_p": 1.0,
        "max_new_tokens": 200,
        "stop": None,
        "stop_token_ids": None,
        "skip_special_tokens": False,
        "no_stop_trim": True,
        "spaces_between_special_tokens": False,
        **overrides,
    }


def arguments(engine: ScriptedEngine, checkpoint: Path, **overrides: Any) -> Any:
    defaults = {
        "hf_checkpoint": str(checkpoint),
        "sglang_router_ip": "127.0.0.1",
        "sglang_router_port": engine.port,
        "sglang_server_concurrency": 16,
        "reward_key": None,
    }
    return SimpleNamespace(**{**defaults, **overrides})


def recipe(retriever: ScriptedRetriever | None, **config: Any) -> SearchR1:
    """Few attempts, and no number of failures stops it, unless ``config`` says otherwise."""
    url = retriever.search_url if retriever else "http://127.0.0.1:9/retrieve"
    defaults = {"local": {"search_url": url}, "search_attempts": 2, "engine_attempts": 2, "max_failure_share": 1.0}
    return SearchR1({**defaults, **config})


def new_sample(number: int = 7, **overrides: Any) -> LocalSample:
    fields = {"index": number, "prompt": PROMPT.format(number=number), "label": f"name-{number}"}
    return LocalSample(**{**fields, **overrides})


def generate(
    one: SearchR1, args: Any, samples: Sequence[LocalSample], params: dict[str, Any] | None = None
) -> list[LocalSample]:
    """Generates and scores like slime's rollout: a reward that generate set stays, an aborted sample gets none.

    All samples share one dict of sampling parameters, as in slime's evaluation.
    """
    shared = sampling_params() if params is None else params

    async def single(sample: LocalSample) -> LocalSample:
        sample = await one.generate(args, sample, shared)
        if sample.reward is None and sample.status is not LocalSample.Status.ABORTED:
            reward = await one.reward_func(args, sample)
            assert isinstance(reward, float)
            sample.reward = reward
        return sample

    async def all_of_them() -> list[LocalSample]:
        try:
            return list(await asyncio.gather(*map(single, samples)))
        finally:
            await close_sessions()

    return asyncio.run(all_of_them())
