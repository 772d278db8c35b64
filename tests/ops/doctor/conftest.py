"""A user's machine for every test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.doctor.doctor_site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    before, modules = list(sys.path), set(sys.modules)
    yield Site(tmp_path, monkeypatch)
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith(("generate_with_search", "own_recipe")):
            del sys.modules[name]
