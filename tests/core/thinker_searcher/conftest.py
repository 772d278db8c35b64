"""The servers that a Thinker asks."""

from typing import Any

import pytest
from support.scripted_engine import ScriptedEngine
from support.scripted_searcher import ScriptedSearcher
from support.thinkers import SEARCHER, THINKER, in_a_sentence


@pytest.fixture
def engine(qwen: Any) -> Any:
    with ScriptedEngine(qwen, THINKER) as running:
        yield running


@pytest.fixture
def searcher() -> Any:
    with ScriptedSearcher(in_a_sentence) as running:
        yield running


@pytest.fixture
def frozen(qwen: Any) -> Any:
    with ScriptedEngine(qwen, SEARCHER, seed=5) as running:
        yield running
