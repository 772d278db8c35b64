"""One tiny model of each kind a session, and a fresh server of one of them a test."""

from collections.abc import AsyncIterator

import pytest
import torch

from tests.local.engine.engine_serving import Client, TinyModel, save_tiny, serving, tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("qwen2")
    save_tiny(folder, "qwen2")
    return tiny_model(folder)


@pytest.fixture(scope="session")
def other_qwen2(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The same architecture and tokenizer with other weights."""
    folder = tmp_path_factory.mktemp("other_qwen2")
    save_tiny(folder, "qwen2", seed=1)
    return tiny_model(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("llama")
    save_tiny(folder, "llama")
    return tiny_model(folder)


@pytest.fixture
async def client(qwen2: TinyModel) -> AsyncIterator[Client]:
    async with serving(qwen2) as served:
        yield served
