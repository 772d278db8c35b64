import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace

import pytest

from slime_search.ops.checkpoints.folder import CheckpointFolder
from tests.ops.checkpoints.model_hub import ModelHub
from tests.ops.checkpoints.saving import context, hub_settings


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    return context()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A Hub without models; huggingface_hub retries, and does not wait before."""
    # Its own clock, since time.sleep itself is everybody's.
    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
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
