"""The core's tests never wait for a retry."""

from pathlib import Path
from typing import Any

import pytest
from support.chat_rollouts import by_chat_turn, diligent
from support.chat_templates import FAMILIES, save_family
from support.rollouts import passage
from support.scripted_chat import ScriptedChat
from support.scripted_retriever import ScriptedRetriever


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, the waits between them don't (a server's Retry-After is still honoured)."""
    monkeypatch.setattr("slime_search.transport.client._backoff", lambda state: 0.0)


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint's tokenizer of each family of chat templates."""
    return {name: save_family(tmp_path_factory.mktemp("family"), name) for name in FAMILIES}


@pytest.fixture(scope="session")
def families(family_folders: dict[str, Path]) -> dict[str, Any]:
    from transformers import AutoTokenizer

    return {name: AutoTokenizer.from_pretrained(folder) for name, folder in family_folders.items()}


@pytest.fixture
def retriever() -> Any:
    with ScriptedRetriever(passage) as running:
        yield running


@pytest.fixture
def checkpoint(family_folders: dict[str, Path]) -> Path:
    return family_folders["qwen3"]


@pytest.fixture
def tokenizer(families: dict[str, Any]) -> Any:
    return families["qwen3"]


@pytest.fixture
def engine(tokenizer: Any) -> Any:
    with ScriptedChat(tokenizer, by_chat_turn(diligent)) as running:
        yield running
