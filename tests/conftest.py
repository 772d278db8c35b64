"""Fixtures that every area shares: tokenizers on disk and a clean environment."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.tokenizers import save_qwen_like, save_with_tag_tokens

# Two shared cores make any deadline a timing assertion.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests stay out of them."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("SLIME_SEARCH_") or name in ("SERPER_API_KEY", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(name)


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
