"""The core's tests never wait for a retry."""

import pytest


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, the waits between them don't (a server's Retry-After is still honoured)."""
    monkeypatch.setattr("slime_search.service._backoff", lambda state: 0.0)
