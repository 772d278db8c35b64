"""Fixtures that every area shares: a clean environment, no waits, tokenizers on disk, scripted servers."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.chat_rollouts import by_chat_turn, diligent
from tests.support.chat_templates import FAMILIES, save_family
from tests.support.rollouts import passage
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.tokenizers import save_qwen_like, save_with_tag_tokens

# Two shared cores make any deadline a timing assertion.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


# A shell that starts the tests in the background ignores SIGINT for them, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads of torch that wait for each other would keep the cores from what else is running.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TOGETHER = ("tests/conformance", "tests/retrieval/cluster", "tests/slime_stack")
"""Folders whose tests share what takes long to start."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``pytest -n``: the tests of a file run in one process, as they share what it starts, and files in their order."""
    from xdist.scheduler import LoadFileScheduling

    class ByFolderOrFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(f"{folder}/")), nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return ByFolderOrFile(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests stay out of them."""
    for name in list(os.environ):
        if name.upper().startswith("SLIME_SEARCH_") or name == "SERPER_API_KEY":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, the waits between them don't (a server's Retry-After is still honoured)."""
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen_like(tmp_path_factory.mktemp("qwen-like"))


@pytest.fixture(scope="session")
def tag_token_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_with_tag_tokens(tmp_path_factory.mktemp("tag-tokens"))


@pytest.fixture(scope="session")
def qwen(qwen_folder: Path) -> Any:
    return load(qwen_folder)


@pytest.fixture(scope="session")
def tag_token(tag_token_folder: Path) -> Any:
    return load(tag_token_folder)


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


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
