from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.retrieval.download.downloading import POINT, settings_of
from tests.retrieval.download.hub_server import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with an index in three parts; retries happen, the waits between them don't."""
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent")
    with Hub() as server:
        server.repos[POINT.repo] = {"part_aa": bytes(range(256)) * 8, "part_ab": b"b" * 1000, "part_ac": b"c" * 7}
        for name, value in settings_of(server.url).items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield server


@pytest.fixture
def whole(hub: Hub) -> bytes:
    return b"".join(hub.repos[POINT.repo].values())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "wiki-18"
    folder.mkdir()
    return folder
