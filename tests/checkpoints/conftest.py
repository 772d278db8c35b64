from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from model_hub import ModelHub
from saving import context, hub_settings

from slime_search.checkpoints.folder import CheckpointFolder


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    return context()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A Hub without models; huggingface_hub retries, and does not wait before."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with ModelHub() as server:
        for name, value in hub_settings(server.url).items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "save"


@pytest.fixture
def folder(root: Path) -> CheckpointFolder:
    root.mkdir()
    return CheckpointFolder(root)
