from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hostile_texts import TEXTS
from viewing import hostile_rollout, opened, run_lines, serving, write

from slime_search.viewer.library import Library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Seventy questions before training and after it."""
    folder = tmp_path_factory.mktemp("run")
    run_lines(folder)
    return opened(folder, spool=folder)


@pytest.fixture(scope="module")
def url(library: Library) -> Iterator[str]:
    with serving(library) as address:
        yield address


@pytest.fixture
def hostile(tmp_path: Path) -> Library:
    """Hostile texts wherever a rollout may have text."""
    path = write(tmp_path / "rollouts.jsonl", [hostile_rollout(i, text) for i, text in enumerate(TEXTS)])
    return opened(path, spool=tmp_path)
