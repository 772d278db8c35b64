"""Tokenizers of several kinds, and no waiting between retries."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.teacher_tokenizers import KINDS, save_kind


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, the waits between them don't."""
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)


@pytest.fixture(scope="session")
def kind_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint's tokenizer of each kind."""
    return {kind: save_kind(tmp_path_factory.mktemp("kind"), kind) for kind in KINDS}


@pytest.fixture(scope="session")
def kinds(kind_folders: dict[str, Path]) -> dict[str, Any]:
    from transformers import AutoTokenizer

    return {kind: AutoTokenizer.from_pretrained(folder) for kind, folder in kind_folders.items()}
