"""The servers that a Thinker asks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.thinker_searcher.searcher_process import Backends, Service
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_searcher import ScriptedSearcher
from tests.support.thinkers import SEARCHER, THINKER, in_a_sentence


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


@pytest.fixture(scope="session")
def keep() -> Iterator[Callable[[Service], Service]]:
    """Ends the services that it is given with the test session at the latest."""
    with ExitStack() as stack:

        def kept(service: Service) -> Service:
            stack.callback(service.process.wait)
            stack.callback(service.process.kill)
            return service

        yield kept


@pytest.fixture
def backends(qwen: Any) -> Iterator[Backends]:
    with Backends(qwen) as running:
        yield running


@pytest.fixture(scope="session")
def shared_backends(qwen: Any) -> Iterator[Backends]:
    with Backends(qwen) as running:
        yield running


@pytest.fixture(scope="session")
def shared_service(shared_backends: Backends, qwen_folder: Path, keep: Callable[[Service], Service]) -> Service:
    service = keep(Service(qwen_folder, shared_backends))
    service.wait_until_ready()
    return service


@pytest.fixture
def service(shared_service: Service, shared_backends: Backends) -> Iterator[Service]:
    """One process for all tests, whose dependencies are well again after each."""
    yield shared_service
    shared_backends.engine.script = lambda exchange: None
    shared_backends.engine.gate = None
    shared_backends.retriever.script = lambda lookup: None
