from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.policies import by_turn, spoken_turns, think_answer, think_search
from tests.support.rollouts import passage
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever


@pytest.fixture
def searching(qwen: Any) -> Iterator[tuple[ScriptedEngine, ScriptedRetriever]]:
    """An engine that searches and then answers, and a retriever."""
    turns = think_search("thing-7 maker"), think_answer("name-7")
    policy = by_turn(lambda context: turns[min(spoken_turns(context), 1)])
    with ScriptedEngine(qwen, policy) as engine, ScriptedRetriever(passage) as retriever:
        yield engine, retriever
