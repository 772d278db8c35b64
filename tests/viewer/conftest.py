"""The pages and runs that the viewer's tests look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slime_search.viewer.library import Library
from slime_search.viewer.report import write_report
from tests.support.hostile_texts import TEXTS
from tests.viewer.hostile import hostile_run
from tests.viewer.sample_run import Run, sample_run
from tests.viewer.viewing import hostile_rollout, opened, run_lines, serving, write


def write_page(path: Path, run: Run, title: str) -> Path:
    write_report(path, summary=run.summary, metrics=run.metrics, trajectories=run.trajectories, title=title)
    return path


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the invented run."""
    return write_page(tmp_path_factory.mktemp("page") / "report.html", sample_run(), title="A run")


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with hostile texts wherever text may stand."""
    return write_page(
        tmp_path_factory.mktemp("hostile") / "report.html", hostile_run(sample_run()), title="".join(TEXTS)
    )


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
