"""What an evaluation's numbers depend on."""

import sys
from pathlib import Path
from typing import Any

import pytest

from slime_search.engines.endpoint import Endpoint
from slime_search.evaluation.store import settings_of
from slime_search.evaluation.target import open_target

TOLD: dict[str, Any] = {"questions": {}, "samples": 1, "temperature": 0.0, "turn_tokens": 9, "seed": 0}
PLAIN = """
async def generate(args, sample, sampling_params): ...
async def reward_func(args, sample, **kwargs): ...
"""


def settings(recipe: str, checkpoint: Path, *, own_services: bool, **config: Any) -> dict[str, Any]:
    """Those of a checkpoint on the embedded engine."""
    endpoint = Endpoint("http://127.0.0.1:9")
    target = open_target(recipe, endpoint, tokenizer=str(checkpoint), config=config, concurrency=1)
    return settings_of(target, weights=[checkpoint], own_services=own_services, **TOLD)


def at(port: int) -> dict[str, Any]:
    return {"local": {"search_url": f"http://127.0.0.1:{port}/retrieve"}}


def test_another_retriever_is_another_setting_even_where_the_model_is_served_here(qwen_folder: Path) -> None:
    found = [settings("search-r1", qwen_folder, own_services=False, **at(port)) for port in (8000, 8001)]
    assert found[0]["engine"] == found[1]["engine"]
    assert found[0] != found[1]


def test_addresses_that_live_as_long_as_the_process_count_for_nothing(qwen_folder: Path) -> None:
    found = [
        settings(
            "thinker-searcher", qwen_folder, own_services=True, searcher_url=f"http://127.0.0.1:{port}", **at(port)
        )
        for port in (8000, 8001)
    ]
    assert found[0] == found[1]


def test_plain_functions_have_no_config(qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plain_agent.py").write_text(PLAIN)
    assert settings("plain_agent", qwen_folder, own_services=False)["config"] == {}
    del sys.modules["plain_agent"]
